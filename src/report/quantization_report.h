#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "report/kind_costs.h"
#include "report/page.h"

namespace pq::report {

/// A linear layer that quantizing hurts, and what would mend it.
struct WorstLinear {
  std::size_t block = 0;
  std::string linear;
  double cost = 0;                         ///< what it is ranked by
  double error = 0;                        ///< ||y - y'||^2 over ||y||^2, this layer quantized alone
  double weights = 0;                      ///< the part of its weights
  double inputs = 0;                       ///< and of what it reads
  std::vector<std::string> settings = {};  ///< "blocks.11.linear.down_proj.weight.bits=8"; empty: nothing mends it
  double bits_per_weight = 0;              ///< of the model with them
};
/// A row each; `cost` says what they are ranked by.
Table worst_table(const std::vector<WorstLinear>& worst, const std::string& cost);

/// Outlier tokens behind the prefix.
struct RemainingOutliers {
  double per_sequence = 0;
  double sequence_share = 0;
  double max_ratio = 0;
};

/// What a run of quantizing knows of itself, for its page. Whatever is empty was not measured and is left out.
struct QuantizationReport {
  std::string model;
  std::string recipe;     ///< "w4a4kv4-static"
  std::string precision;  ///< "W4A4KV4"
  std::string recipe_in_words;
  std::string prefix_text;  ///< empty: no prefix
  std::vector<std::int32_t> prefix_token_ids;
  std::string calibration;
  std::vector<std::pair<std::string, std::string>> settings;  ///< every field of the recipe

  std::vector<std::string> linears;                ///< "q_proj", ...: columns of what follows
  std::vector<std::vector<double>> linear_errors;  ///< [blocks][linears]: ||y - y'||^2 over ||y||^2, quantized alone
  std::vector<double> block_errors;                ///< [blocks]: the same of the block's output
  /// [blocks][linears]: squared error of the block's output over its square, mean over tokens, this linear quantized
  /// alone
  std::vector<std::vector<double>> linear_costs;
  std::vector<WorstLinear> worst;  ///< those of the largest costs, the largest first
  std::vector<KindCost> kinds;     ///< the largest first
  MendingProposal proposal;
  double bits_per_weight = 0;                      ///< of the linear layers, scales included
  std::vector<std::vector<double>> weight_scales;  ///< [blocks][linears]: the median scale
  std::vector<std::string> sites;                  ///< "mlp.down_input", ...
  std::vector<std::vector<double>> site_scales;    ///< [blocks][sites]: static scales (the largest of several)
  std::vector<std::vector<double>> site_clips;     ///< [blocks][sites]: dynamic clip factors of the maximum

  /// The losses of one thing that was tuned.
  struct Tuning {
    std::string name;                ///< "block 3", "end to end"
    std::string loss;                ///< what its losses are: "relative squared error"
    double start = 0;                ///< on the sequences held back, before
    double end = 0;                  ///< and of what was kept
    std::vector<double> training;    ///< one an epoch
    std::vector<double> validation;  ///< one an epoch
    bool kept_start = false;
  };
  std::vector<Tuning> tuning;

  std::vector<double> block_seconds;
  struct Step {
    std::string name;
    double seconds = 0;
    std::uint64_t memory_bytes = 0;  ///< private, at its end; 0: not known
  };
  std::vector<Step> steps;
  double seconds = 0;
  std::uint64_t checkpoint_bytes = 0;
  std::uint64_t memory_bytes = 0;  ///< private, at the peak

  std::optional<RemainingOutliers> remaining;  ///< with the prefix in place
};

Page to_page(const QuantizationReport& report);

}  // namespace pq::report
