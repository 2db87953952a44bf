#include "pipeline/kv_symmetry.h"

#include <algorithm>

#include "base/phase_timer.h"
#include "model/block_formats.h"
#include "model/site_transform.h"
#include "nn/model_context.h"
#include "nn/transformer.h"
#include "pipeline/streams.h"
#include "quant/quantizer.h"

namespace pq::quant {
namespace {

double squared_error(Site site, const at::Tensor& x, const QuantizerFormat& format) {
  at::Tensor rounded;
  if (format.is_static()) {
    const MinMaxTensors range = static_slices(site, x);
    const at::Tensor one = at::ones_like(range.max);
    rounded = SiteFakeQuantizer(site, format, slice_scales(range.min, range.max, one, one, format))(x);
  } else {
    rounded = SiteFakeQuantizer(site, format, 1, 1)(x);
  }
  return (rounded - x).to(at::kDouble).square().sum().item<double>();
}

}  // namespace

KvSymmetry measure_kv_symmetry(const io::HfCheckpoint& checkpoint, const CalibrationSet& set, const Recipe& recipe,
                               const at::TensorOptions& options) {
  constexpr std::int64_t most_sequences = 4;
  constexpr std::int64_t most_tokens = 512;
  KvSymmetry found;
  if (!quantizes_kv(recipe)) return found;
  const at::NoGradGuard no_grad;
  const PhaseTimer timer("symmetry of K and V");
  const ModelSpec& spec = checkpoint.spec();
  const std::int64_t length = std::min(set.length(), most_tokens);
  const std::int64_t sequences = std::min(set.samples(), most_sequences);
  RotationSettings online{ResidualRotation::none, false, recipe.rotate.r3, false};
  const nn::ModelContext contexts(spec, online_rotations(spec, online), length, options);
  const at::Tensor tokens = to_token_tensor(set, options.device()).narrow(0, 0, sequences).narrow(1, 0, length);
  at::Tensor x = nn::embed(checkpoint, tokens.contiguous(), options);
  Recipe symmetric = recipe;
  symmetric.kv.symmetric = true;
  Recipe asymmetric = recipe;
  asymmetric.kv.symmetric = false;
  for (std::int64_t index = 0; index < spec.block_count; ++index) {
    const BlockFormats with = block_formats(symmetric, index);
    const BlockFormats without = block_formats(asymmetric, index);
    const auto tap = [&](Site site, const at::Tensor& values) {
      if (is_kv(site) && without.site[site].enabled() && length > 1) {
        const at::Tensor body = values.narrow(1, 1, length - 1).to(at::kFloat).contiguous();
        const double error = squared_error(site, body, without.site[site]);
        const double ratio = error > 0 ? squared_error(site, body, with.site[site]) / error : 0;
        if (ratio > found.worst_ratio) found = {ratio, index};
      }
      return values;
    };
    x = nn::forward(nn::load_block(checkpoint, index, options), contexts.block(index), x, tap);
  }
  return found;
}

}  // namespace pq::quant
