#pragma once

#include <string>
#include <vector>

#include "report/page.h"

namespace pq::report {

/// "--set A --set B"
std::string set_flags(const std::vector<std::string>& settings);

/// Numbers of one kind, quantized alone in all blocks, and what would mend them.
struct KindCost {
  std::string name;  ///< "inputs of down_proj"
  double kl = 0;     ///< nats, of the logits
  std::vector<std::string> settings = {};
  double bits_per_weight = 0;  ///< of the model with them
};

/// What to mend first, together.
struct MendingProposal {
  std::vector<std::string> names = {};  ///< "inputs of down_proj", the one that is worth most first
  std::vector<std::string> settings = {};
  double bits_per_weight = 0;  ///< of the model with all of them
  std::string command;         ///< that makes it
};

/// "inputs of down_proj; weights of o_proj in block 3"
std::string named_together(const MendingProposal& proposal);
/// The kinds as figure and table, the largest KL divergence first, and the proposal. Empty where there are none.
Section kinds_section(const std::vector<KindCost>& kinds, const MendingProposal& proposal, double bits_per_weight);

}  // namespace pq::report
