#include "quant/gptq.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "numerics/quantize.h"
#include "quant/gptq_block.h"
#include "quant/weight_clip.h"

namespace pq::quant {
namespace {

constexpr std::int64_t block_columns = 128;

constexpr std::size_t steps_apart = 4;

/// Factors of a group's largest and smallest values, [candidates, 1].
struct ClipPairs {
  ClipPairs(const SearchSettings& settings, bool symmetric, const at::TensorOptions& options) {
    const std::vector<double> factors = grids::weight_clip(settings);
    std::vector<double> highs, lows;
    for (std::size_t high = 0; high < factors.size(); ++high) {
      for (std::size_t low = 0; low < factors.size(); ++low) {
        if (std::max(high, low) - std::min(high, low) > (symmetric ? 0 : steps_apart)) continue;
        highs.push_back(factors[high]);
        lows.push_back(factors[low]);
      }
    }
    gamma = at::tensor(highs, at::kDouble).unsqueeze(1).to(options);
    beta = at::tensor(lows, at::kDouble).unsqueeze(1).to(options);
  }
  at::Tensor gamma;
  at::Tensor beta;
};

/// The columns of a layer, with the scales that each is rounded by.
class Columns {
 public:
  Columns(const ScaleTensors& scales, const QuantizerFormat& format, std::int64_t columns)
      : format_(format), group_(format.granularity == Granularity::group ? format.group : columns) {
    scales_.scale = scales.scale.t().contiguous();  // [groups, out]
    if (scales.zero_point.defined()) scales_.zero_point = scales.zero_point.t().contiguous();
  }

  /// [out, groups]
  ScaleTensors scales() const {
    return {scales_.scale.t().contiguous(),
            scales_.zero_point.defined() ? scales_.zero_point.t().contiguous() : at::Tensor()};
  }

  /// Chooses the scales of the group whose columns begin at `begin` for what is left of them: left [columns, out],
  /// importance [columns].
  void choose(std::int64_t begin, const at::Tensor& left, const at::Tensor& importance, const ClipPairs& clips,
              const at::Tensor& channel) {
    const ScaleTensors candidates =
        group_scale_candidates(left.amin(0), left.amax(0), clips.gamma, clips.beta, channel, format_);
    ScaleTensors chosen{scales_.scale[begin / group_], {}};
    if (scales_.zero_point.defined()) chosen.zero_point = scales_.zero_point[begin / group_];
    if (left.is_cpu() && left.scalar_type() == at::kFloat) {
      choose_fused(left, importance, candidates, chosen);
    } else {
      choose_in_turn(left, importance, candidates, chosen);
    }
  }

  /// Rounds the columns from `begin` on: left, codes, errors [columns, out].
  void round(std::int64_t begin, const at::Tensor& factor, at::Tensor left, at::Tensor codes, at::Tensor errors) const {
    if (left.is_cpu() && left.scalar_type() == at::kFloat) {
      fused(begin, factor, left, codes, errors);
    } else {
      one_by_one(begin, factor, left, codes, errors);
    }
  }

 private:
  void choose_fused(const at::Tensor& left, const at::Tensor& importance, const ScaleTensors& candidates,
                    const ScaleTensors& chosen) const {
    const QuantRange range = quant_range(format_.bits, format_.symmetric);
    const auto floats = [](const at::Tensor& x) { return x.defined() ? x.data_ptr<float>() : nullptr; };
    const at::Tensor scale = candidates.scale.contiguous();
    const at::Tensor zero_point = candidates.zero_point.defined() ? candidates.zero_point.contiguous() : at::Tensor();
    const GroupChoice choice{.columns = left.size(0),
                             .channels = left.size(1),
                             .left = left.data_ptr<float>(),
                             .importance = importance.data_ptr<float>(),
                             .candidates = scale.size(0),
                             .candidate_scale = floats(scale),
                             .candidate_zero_point = floats(zero_point),
                             .scale = floats(chosen.scale),
                             .zero_point = floats(chosen.zero_point),
                             .low = static_cast<float>(range.low),
                             .high = static_cast<float>(range.high)};
    parallel_for(static_cast<std::size_t>(left.size(1)), 64, [&](std::size_t first, std::size_t last) {
      choose_scales(choice, static_cast<std::int64_t>(first), static_cast<std::int64_t>(last));
    });
  }

  void choose_in_turn(const at::Tensor& left, const at::Tensor& importance, const ScaleTensors& candidates,
                      const ScaleTensors& chosen) const {
    at::Tensor least;
    for (std::int64_t i = 0; i < candidates.scale.size(0); ++i) {
      ScaleTensors one{candidates.scale[i], {}};
      if (candidates.zero_point.defined()) one.zero_point = candidates.zero_point[i];
      const at::Tensor difference = left - fake_quantize(left, one, format_);
      const at::Tensor error = difference.square_().mul_(importance.unsqueeze(1)).sum(0);
      const at::Tensor better = i == 0 ? at::ones_like(error, at::kBool) : error < least;
      least = i == 0 ? error : at::where(better, error, least);
      at::Tensor scale = chosen.scale;
      scale.copy_(at::where(better, one.scale, scale));
      if (!one.zero_point.defined()) continue;
      at::Tensor zero_point = chosen.zero_point;
      zero_point.copy_(at::where(better, one.zero_point, zero_point));
    }
  }

  void fused(std::int64_t begin, const at::Tensor& factor, at::Tensor& left, at::Tensor& codes,
             at::Tensor& errors) const {
    const QuantRange range = quant_range(format_.bits, format_.symmetric);
    const CompensatedBlock block{
        .columns = left.size(0),
        .channels = left.size(1),
        .left = left.data_ptr<float>(),
        .codes = codes.data_ptr<float>(),
        .errors = errors.data_ptr<float>(),
        .factor = factor.data_ptr<float>() + begin * factor.size(1) + begin,
        .factor_stride = factor.size(1),
        .scale = scales_.scale.data_ptr<float>(),
        .zero_point = scales_.zero_point.defined() ? scales_.zero_point.data_ptr<float>() : nullptr,
        .first_column = begin,
        .group = group_,
        .low = static_cast<float>(range.low),
        .high = static_cast<float>(range.high)};
    parallel_for(static_cast<std::size_t>(left.size(1)), 64, [&](std::size_t first, std::size_t last) {
      compensate(block, static_cast<std::int64_t>(first), static_cast<std::int64_t>(last));
    });
  }

  void one_by_one(std::int64_t begin, const at::Tensor& factor, at::Tensor& left, at::Tensor& codes,
                  at::Tensor& errors) const {
    for (std::int64_t i = 0; i < left.size(0); ++i) {
      const std::int64_t column = begin + i;
      ScaleTensors scales{scales_.scale[column / group_], {}};
      if (scales_.zero_point.defined()) scales.zero_point = scales_.zero_point[column / group_];
      at::Tensor code = codes[i];
      code.copy_(quantize(left[i], scales, format_));
      at::Tensor error = errors[i];
      error.copy_((left[i] - dequantize(code, scales)).div_(factor[column][column]));
      if (i + 1 < left.size(0)) {
        at::Tensor following = left.narrow(0, i + 1, left.size(0) - i - 1);
        following.sub_(at::outer(factor[column].narrow(0, column + 1, following.size(0)), error));
      }
    }
  }

  const QuantizerFormat& format_;
  std::int64_t group_;
  ScaleTensors scales_;
};

}  // namespace

at::Tensor compensation_factor(const at::Tensor& gram, std::string_view name) {
  for (const double damping : {0.01, 0.1, 1.0}) {
    at::Tensor matrix = gram.clone();  // one name for every stage: at most two such matrices beside `gram` are alive
    at::Tensor diagonal = matrix.diagonal();
    // Inputs that are always zero get a diagonal of one.
    diagonal.add_(at::where(diagonal == 0, at::ones_like(diagonal), at::zeros_like(diagonal)));
    diagonal.add_(damping * diagonal.mean());
    diagonal = at::Tensor();
    bool definite = true;
    const auto factored = [&](const at::Tensor& x) {
      auto [lower, info] = at::linalg_cholesky_ex(x);
      definite = definite && info.item<int>() == 0;
      return lower;
    };
    matrix = factored(matrix);
    if (definite) matrix = at::cholesky_inverse(matrix);
    if (definite) matrix = factored(matrix);
    if (definite) return matrix.t().contiguous();
    log_warning("{}: its inputs are so alike that GPTQ needs more damping than {}", name, damping);
  }
  throw InputError(name, "the calibration gives inputs that are no numbers, or beyond float32",
                   "check the model's weights, or leave GPTQ out (--set search.gptq=false)");
}

at::Tensor column_importance(const at::Tensor& factor) { return factor.diagonal().square().reciprocal(); }

bool chooses_group_scales(const QuantizerFormat& format) {
  return format.granularity == Granularity::group && block_columns % format.group == 0;
}

WeightCodes quantize_weight_compensated(const at::Tensor& weight, const at::Tensor& clip, const at::Tensor& factor,
                                        const QuantizerFormat& format, const SearchSettings* search,
                                        at::Tensor* compensated) {
  const std::int64_t columns = weight.size(1);
  WeightCodes result = quantize_weight(weight, clip, format);
  Columns columns_of(result.scales, format, columns);
  std::optional<ClipPairs> clips;
  at::Tensor importance;
  if (search != nullptr && chooses_group_scales(format)) {
    clips.emplace(*search, format.symmetric, weight.options());
    importance = column_importance(factor);
  }
  const std::int64_t step = clips ? format.group : block_columns;
  const at::Tensor rows = factor.contiguous();  // as compensation_factor() made it
  // Transposed, so that a column of the layer is a row in memory.
  at::Tensor left = weight.t().clone(at::MemoryFormat::Contiguous);
  at::Tensor codes = at::empty_like(left);
  for (std::int64_t begin = 0; begin < columns; begin += block_columns) {
    const std::int64_t end = std::min(begin + block_columns, columns);
    at::Tensor errors = at::empty({end - begin, weight.size(0)}, weight.options());
    for (std::int64_t first = begin; first < end; first += step) {
      const std::int64_t count = std::min(step, end - first);
      const std::int64_t next = first + count;
      const at::Tensor part = left.narrow(0, first, count);
      const at::Tensor part_errors = errors.narrow(0, first - begin, count);
      if (clips) columns_of.choose(first, part, importance.narrow(0, first, count), *clips, result.scales.channel);
      columns_of.round(first, rows, part, codes.narrow(0, first, count), part_errors);
      if (next < end) {
        at::Tensor rest = left.narrow(0, next, end - next);
        rest.addmm_(rows.narrow(0, first, count).narrow(1, next, end - next).t(), part_errors, 1, -1);
      }
    }
    if (end < columns) {
      at::Tensor rest = left.narrow(0, end, columns - end);
      rest.addmm_(rows.narrow(0, begin, end - begin).narrow(1, end, columns - end).t(), errors, 1, -1);
    }
  }
  result.codes = codes.t().contiguous();
  if (clips) {
    const at::Tensor channel = result.scales.channel;
    result.scales = columns_of.scales();
    result.scales.channel = channel;
  }
  if (compensated != nullptr) *compensated = left.t().contiguous();
  return result;
}

WeightCodes round_weight(at::Tensor& weight, const at::Tensor& clip, const at::Tensor& factor,
                         const QuantizerFormat& format, const SearchSettings* search) {
  if (!factor.defined()) return quantize_weight(weight, clip, format);
  at::Tensor compensated;
  WeightCodes codes = quantize_weight_compensated(weight, clip, factor, format, search, &compensated);
  weight = std::move(compensated);
  return codes;
}

}  // namespace pq::quant
