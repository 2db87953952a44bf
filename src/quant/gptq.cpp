#include "quant/gptq.h"

#include <algorithm>

namespace pq::quant {
namespace {

constexpr double damping = 0.01;
constexpr std::int64_t block_columns = 128;

/// Upper Cholesky factor of the inverse of the damped Gram matrix. Inputs that are always zero get a diagonal of one.
at::Tensor inverse_factor(const at::Tensor& gram) {
  at::Tensor matrix = gram.clone();  // one name for every stage: at most two such matrices beside `gram` are alive
  at::Tensor diagonal = matrix.diagonal();
  diagonal.add_(at::where(diagonal == 0, at::ones_like(diagonal), at::zeros_like(diagonal)));
  diagonal.add_(damping * diagonal.mean());
  diagonal = at::Tensor();
  matrix = at::linalg_cholesky(matrix);
  matrix = at::cholesky_inverse(matrix);
  matrix = at::linalg_cholesky(matrix);
  return matrix.t();
}

}  // namespace

WeightCodes quantize_weight_compensated(const at::Tensor& weight, const at::Tensor& clip, const at::Tensor& gram,
                                        const QuantizerFormat& format, at::Tensor* compensated) {
  const std::int64_t columns = weight.size(1);
  const std::int64_t group = format.granularity == Granularity::group ? format.group : columns;
  WeightCodes result = quantize_weight(weight, clip, format);
  const at::Tensor factor = inverse_factor(gram);
  // Transposed, so that a column of the layer is a row in memory.
  at::Tensor left = weight.t().clone(at::MemoryFormat::Contiguous);
  at::Tensor codes = at::empty_like(left);
  for (std::int64_t begin = 0; begin < columns; begin += block_columns) {
    const std::int64_t end = std::min(begin + block_columns, columns);
    at::Tensor errors = at::empty({end - begin, weight.size(0)}, weight.options());
    for (std::int64_t i = begin; i < end; ++i) {
      ScaleTensors scales{result.scales.scale.select(1, i / group), {}};
      if (result.scales.zero_point.defined()) scales.zero_point = result.scales.zero_point.select(1, i / group);
      const at::Tensor column = left[i];
      at::Tensor code = codes[i];
      code.copy_(quantize(column, scales, format));
      at::Tensor error = errors[i - begin];
      error.copy_((column - dequantize(code, scales)).div_(factor[i][i]));
      if (i + 1 < end) {
        at::Tensor following = left.narrow(0, i + 1, end - i - 1);
        following.sub_(at::outer(factor[i].narrow(0, i + 1, end - i - 1), error));
      }
    }
    if (end < columns) {
      at::Tensor rest = left.narrow(0, end, columns - end);
      rest.addmm_(factor.narrow(0, begin, end - begin).narrow(1, end, columns - end).t(), errors, 1, -1);
    }
  }
  result.codes = codes.t().contiguous();
  if (compensated != nullptr) *compensated = left.t().contiguous();
  return result;
}

}  // namespace pq::quant
