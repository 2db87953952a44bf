#include "quant/gptq.h"

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "numerics/quantize.h"
#include "quant/gptq_block.h"

namespace pq::quant {
namespace {

constexpr std::int64_t block_columns = 128;

/// The columns of a layer, with the scales that each is rounded by.
class Columns {
 public:
  Columns(const ScaleTensors& scales, const QuantizerFormat& format, std::int64_t columns)
      : format_(format), group_(format.granularity == Granularity::group ? format.group : columns) {
    scales_.scale = scales.scale.t().contiguous();  // [groups, out]
    if (scales.zero_point.defined()) scales_.zero_point = scales.zero_point.t().contiguous();
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
    if (definite) matrix = factored(at::cholesky_inverse(matrix));
    if (definite) return matrix.t();
    log_warning("{}: its inputs are so alike that GPTQ needs more damping than {}", name, damping);
  }
  throw InputError(name, "the calibration gives inputs that are no numbers, or beyond float32",
                   "check the model's weights, or leave GPTQ out (--set search.gptq=false)");
}

WeightCodes quantize_weight_compensated(const at::Tensor& weight, const at::Tensor& clip, const at::Tensor& factor,
                                        const QuantizerFormat& format, at::Tensor* compensated) {
  const std::int64_t columns = weight.size(1);
  WeightCodes result = quantize_weight(weight, clip, format);
  const Columns columns_of(result.scales, format, columns);
  const at::Tensor rows = factor.contiguous();
  // Transposed, so that a column of the layer is a row in memory.
  at::Tensor left = weight.t().clone(at::MemoryFormat::Contiguous);
  at::Tensor codes = at::empty_like(left);
  for (std::int64_t begin = 0; begin < columns; begin += block_columns) {
    const std::int64_t end = std::min(begin + block_columns, columns);
    at::Tensor errors = at::empty({end - begin, weight.size(0)}, weight.options());
    columns_of.round(begin, rows, left.narrow(0, begin, end - begin), codes.narrow(0, begin, end - begin), errors);
    if (end < columns) {
      at::Tensor rest = left.narrow(0, end, columns - end);
      rest.addmm_(rows.narrow(0, begin, end - begin).narrow(1, end, columns - end).t(), errors, 1, -1);
    }
  }
  result.codes = codes.t().contiguous();
  if (compensated != nullptr) *compensated = left.t().contiguous();
  return result;
}

WeightCodes round_weight(at::Tensor& weight, const at::Tensor& clip, const at::Tensor& factor,
                         const QuantizerFormat& format) {
  if (!factor.defined()) return quantize_weight(weight, clip, format);
  at::Tensor compensated;
  WeightCodes codes = quantize_weight_compensated(weight, clip, factor, format, &compensated);
  weight = std::move(compensated);
  return codes;
}

}  // namespace pq::quant
