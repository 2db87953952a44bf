#pragma once

#include <cstdint>
#include <optional>

#include "base/communicator.h"
#include "io/resume_journal.h"
#include "model/recipe.h"
#include "quant/layer_errors.h"
#include "tuning/tuning_loop.h"

namespace pq::quant {

/// The finished blocks that a run finds in its journal and adds to it, known to every process. All call alike.
class FinishedBlocks {
 public:
  /// All borrowed. `journal` is the root process's; null: nothing is saved and nothing found.
  FinishedBlocks(io::ResumeJournal* journal, Communicator& processes, const ModelSpec& spec, const Recipe& recipe);

  bool contains(std::int64_t index) const;
  QuantizedBlock block(std::int64_t index) const;
  /// What tuning block `index` did; nothing in a run that tunes no blocks.
  std::optional<Tuning> tuning(std::int64_t index) const;
  /// The errors that were measured of block `index`, on the root process; NaN where the journal has none.
  std::optional<LayerErrors> errors(std::int64_t index) const;
  void save(std::int64_t index, const QuantizedBlock& block, const std::optional<Tuning>& tuning,
            const std::optional<LayerErrors>& errors) const;

 private:
  io::ResumeJournal* journal_;
  Communicator& processes_;
  const ModelSpec& spec_;
  const Recipe& recipe_;
};

}  // namespace pq::quant
