#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/recipe.h"
#include "nn/block.h"
#include "pipeline/calibration.h"
#include "pipeline/preparation.h"
#include "pipeline/transformed_model.h"
#include "report/analysis.h"

namespace pq::quant {

/// Sequences that the model writes behind the prefix, each beginning with the token that starts a text; `shape` is cut
/// to the model's context. None, and why in `note`, where the whole model does not fit in memory.
CalibrationSet generated_text(const Preparation& preparation, const Recipe& recipe,
                              const std::vector<std::int32_t>& prefix, SequenceShape shape, std::string& note);

/// Outlier tokens in what the model wrote, on its way through the blocks. The first token of a sequence was given and
/// counts for the median alone.
class GeneratedStream {
 public:
  /// `rule` is borrowed.
  GeneratedStream(const TransformedModel& model, CalibrationSet set, const PrefixSettings& rule);

  void advance(const nn::Block& block, const nn::BlockContext& context);
  /// Nothing where there is no text.
  std::optional<report::GeneratedOutliers> result(const Tokenizer& tokenizer) const;

 private:
  void take_ratios(const at::Tensor& maxima);

  CalibrationSet set_;
  const PrefixSettings& rule_;
  at::Tensor stream_;    // [sequences, length, hidden]
  at::Tensor outliers_;  // [sequences, length] bool: in one block at least
  double ratio_ = 0;
};

}  // namespace pq::quant
