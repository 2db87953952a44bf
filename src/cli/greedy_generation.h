#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <vector>

#include "eval/continuations.h"
#include "model/recipe.h"
#include "runtime/model.h"
#include "tokenizer/tokenizer.h"

namespace pq::cli {

/// Upper outlier tokens at the input of down_proj among the generated tokens.
struct GeneratedOutliers {
  std::int64_t tokens = 0;     ///< in at least one block
  std::int64_t generated = 0;  ///< of so many
  double max_ratio = 0;        ///< largest token-wise maximum over the median of its sequence
  std::map<std::int32_t, std::int64_t> by_id;
};

/// Continues prompts greedily, many at a time. The ranks of an mpirun share the prompts.
class GreedyGenerator {
 public:
  /// At most `max_tokens` behind each prompt.
  GreedyGenerator(std::shared_ptr<const runtime::Model> model, std::int64_t max_tokens, const Tokenizer& tokenizer);

  /// Of the equally likely tokens the one with the lowest id.
  std::vector<eval::Continuation> continue_all(std::span<const std::vector<std::int32_t>> prompts) const;

  /// Of the sequences prompt + continuation, each as a whole behind the model's own prefix.
  GeneratedOutliers find_outliers(std::span<const std::vector<std::int32_t>> prompts,
                                  std::span<const eval::Continuation> continuations,
                                  const PrefixSettings& settings) const;

  const runtime::Model& model() const { return *model_; }

 private:
  void continue_together(std::span<const std::vector<std::int32_t>> prompts, std::span<eval::Continuation> out) const;
  void gather(std::vector<eval::Continuation>& all) const;

  std::shared_ptr<const runtime::Model> model_;
  std::int64_t max_tokens_;
  std::set<std::int32_t> ends_;
};

}  // namespace pq::cli
