#include "quant/gptq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace pq::quant {
namespace {

/// The textbook form of the method: after each column the inverse of the remaining Hessian is updated by one step of
/// Gaussian elimination. Float64, no blocks, no Cholesky.
at::Tensor textbook_codes(const at::Tensor& weight, const ScaleTensors& scales, const at::Tensor& gram,
                          const QuantizerFormat& format, std::int64_t group) {
  at::Tensor hessian = gram.to(at::kDouble);
  const double damp = 0.01 * hessian.diagonal().mean().item<double>();
  hessian.diagonal().add_(damp);
  at::Tensor inverse = hessian.inverse();
  at::Tensor left = weight.to(at::kDouble).clone();
  at::Tensor codes = at::empty_like(weight);
  for (std::int64_t i = 0; i < weight.size(1); ++i) {
    ScaleTensors column{scales.scale.select(1, i / group).to(at::kDouble), {}};
    if (scales.zero_point.defined()) column.zero_point = scales.zero_point.select(1, i / group).to(at::kDouble);
    const at::Tensor code = quantize(left.select(1, i), column, format);
    codes.select(1, i).copy_(code);
    const at::Tensor error = (left.select(1, i) - dequantize(code, column)) / inverse[i][i];
    left = left - at::outer(error, inverse[i]);
    inverse = inverse - at::outer(inverse.select(1, i), inverse[i]) / inverse[i][i];
  }
  return codes;
}

class Gptq : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(5);
    weight = at::randn({24, columns});
    inputs = at::mm(at::randn({600, columns}), at::randn({columns, columns}) + 3 * at::eye(columns));
    gram = at::mm(inputs.t(), inputs);
    factor = compensation_factor(gram, "inputs");
  }
  double error(const WeightCodes& codes, const QuantizerFormat& format) const {
    return at::mm(inputs, (dequantize_weight(codes, format) - weight).t()).square().sum().item<double>();
  }
  static constexpr std::int64_t columns = 200;  // more than one block of 128
  at::Tensor weight;
  at::Tensor inputs;
  at::Tensor gram;
  at::Tensor factor;
};

TEST_F(Gptq, EqualsTheTextbookForm) {
  for (const std::int64_t group : {std::int64_t{0}, std::int64_t{48}}) {
    const QuantizerFormat format{3, group == 0, ScaleMode::static_scale,
                                 group == 0 ? Granularity::channel : Granularity::group, group};
    const at::Tensor clip = at::full({24, format.groups(columns)}, 0.9F);
    const WeightCodes codes = quantize_weight_compensated(weight, clip, factor, format);
    EXPECT_TRUE(codes.scales.scale.equal(quantize_weight(weight, clip, format).scales.scale));
    const at::Tensor expected = textbook_codes(weight, codes.scales, gram, format, group == 0 ? columns : group);
    // A value that float32 and float64 round differently changes its row's later codes: count the rows that agree.
    const auto rows = codes.codes.eq(expected).all(1).sum().item<std::int64_t>();
    EXPECT_GE(rows, 20) << group;
    EXPECT_LT(quantize_weight(weight, clip, format).codes.eq(expected).all(1).sum().item<std::int64_t>(),
              1);  // nearest is not it
  }
}

TEST_F(Gptq, LowersTheOutputErrorAndKeepsNearestForIndependentInputs) {
  const QuantizerFormat format{4, true, ScaleMode::static_scale, Granularity::channel, 0};
  const at::Tensor clip = at::ones({24, 1});
  const WeightCodes nearest = quantize_weight(weight, clip, format);
  EXPECT_LT(error(quantize_weight_compensated(weight, clip, factor, format), format), 0.8 * error(nearest, format));
  EXPECT_TRUE(quantize_weight_compensated(weight, clip, compensation_factor(at::eye(columns), "eye"), format)
                  .codes.equal(nearest.codes));
}

TEST_F(Gptq, SurvivesInputsThatAreAlwaysZero) {
  const QuantizerFormat format{4, true, ScaleMode::static_scale, Granularity::channel, 0};
  at::Tensor dead = inputs.clone();
  dead.narrow(1, 3, 4).zero_();
  const at::Tensor dead_factor = compensation_factor(at::mm(dead.t(), dead), "dead");
  const at::Tensor codes = quantize_weight_compensated(weight, at::ones({24, 1}), dead_factor, format).codes;
  EXPECT_TRUE(codes.isfinite().all().item<bool>());
}

}  // namespace
}  // namespace pq::quant
