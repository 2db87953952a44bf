#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "base/communicator.h"
#include "base/json.h"
#include "io/resume_journal.h"
#include "model/recipe.h"
#include "tuning/parameter.h"
#include "tuning/sequence_shards.h"

namespace pq::quant {

/// Losses of one epoch.
struct EpochLoss {
  double tuning = 0;      ///< mean over the epoch's steps, each before its update
  double validation = 0;  ///< after the epoch, on the sequences held back
};

/// What tuning did: a block's with the mean squared error of its output, or the whole model's with its negative
/// log-likelihood.
struct Tuning {
  double start_loss = 0;  ///< on the sequences held back (without any: on all), before the first step
  double end_loss = 0;    ///< of what was kept
  std::vector<EpochLoss> epochs;
  bool kept_start = false;  ///< it ended worse than it began, so the start values stay
  bool halved = false;      ///< a loss was not finite: tuned again at half the learning rate
  double seconds = 0;       ///< of all epochs, over all runs that it took
};
Json tuning_to_json(const Tuning& tuning);
Tuning tuning_from_json(const Json& json);

/// What is tuned: parameters, and how their gradients come about.
class Tunable {
 public:
  Tunable() = default;
  virtual ~Tunable() = default;
  Tunable(const Tunable&) = delete;
  Tunable& operator=(const Tunable&) = delete;

  /// In a fixed order.
  virtual const std::vector<Parameter>& parameters() const = 0;
  /// Leaves a batch's gradients, summed over all processes, on the parameters; returns its loss.
  virtual double gradients(const SequenceShards::Batch& batch) = 0;
  /// Loss over the sequences that judge.
  virtual double judge() = 0;
  /// After a step: parameters back to where they mean something.
  virtual void keep_in_range() { quant::keep_in_range(parameters()); }
  /// Parameters back to the values they began with.
  virtual void restore() = 0;
};

/// Where tuning stands and is saved. All borrowed.
struct TuningRun {
  const Recipe& recipe;
  const SequenceShards& shards;
  Communicator& processes;
  io::ResumeJournal* journal = nullptr;  ///< of the root process; null: nothing is saved
};

struct TuningPlan {
  std::string name;         ///< for people: "block 3"
  std::string phase;        ///< for the journal: "block-3"
  std::int64_t stream = 0;  ///< separates the shuffles of one seed
  std::int64_t epochs = 0;
  std::string rates;  ///< the recipe's learning rates, as they are set
};

/// AdamW over the plan's epochs, learning rates falling on a cosine to a tenth, batches shuffled by the recipe's seed.
/// Saves after every epoch, and goes on from what was saved. A loss that is not finite restores the parameters and
/// halves the learning rates once; a second one is an InputError that names the step. What ends worse than it began is
/// restored.
Tuning tune(Tunable& tunable, const TuningPlan& plan, const TuningRun& run);

}  // namespace pq::quant
