#include <fmt/format.h>

#include <algorithm>

#include "base/progress.h"
#include "nn/transformer.h"
#include "pipeline/self_calibration.h"

namespace pq::quant {

CalibrationData calibration_from_model(const io::HfCheckpoint& checkpoint, const Tokenizer& tokenizer,
                                       const Recipe& recipe, const at::TensorOptions& options) {
  const at::NoGradGuard no_grad;
  const ModelSpec& spec = checkpoint.spec();
  const SequenceShape detection =
      fit_to_context(recipe.calibration.samples, recipe.calibration.length, spec.max_positions);
  const SequenceShape search = search_shape(recipe, spec.max_positions);
  const std::int32_t start = start_token(tokenizer, spec);
  const auto model = nn::Transformer::load(checkpoint, options);
  const auto sample = [&](SequenceShape shape, std::uint64_t seed) {
    Progress progress("sample", static_cast<std::size_t>(shape.length));
    std::int64_t shown = 0;
    CalibrationSet set;
    set.sequences = model->sample(shape.samples, shape.length, start, seed, [&](std::int64_t done, std::int64_t total) {
      const std::int64_t now = done * shape.length / std::max<std::int64_t>(1, total);
      progress.advance(static_cast<std::size_t>(now - shown), fmt::format("{} sequences", shape.samples));
      shown = now;
    });
    return set;
  };
  CalibrationData data;
  data.source = data.text_hash = "self";
  data.detection =
      sample({detection.length == search.length ? std::max(detection.samples, search.samples) : detection.samples,
              detection.length},
             recipe.seed);
  data.search = data.detection;
  if (detection.length != search.length) data.search = sample(search, recipe.seed + 1);
  data.detection.sequences.resize(static_cast<std::size_t>(detection.samples));
  data.search.sequences.resize(static_cast<std::size_t>(search.samples));
  if (recipe.finetune.enabled()) {
    split_tuning_sequences(sample(tuning_shape(recipe, spec.max_positions), recipe.seed + 2), recipe, data);
  }
  return data;
}

}  // namespace pq::quant
