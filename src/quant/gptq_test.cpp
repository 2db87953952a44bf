#include "quant/gptq.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "quant/weight_clip.h"

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

/// The same in groups whose scales are chosen when their first column's turn comes, among those for the group's ends
/// times two factors of `factors`, at most four apart (the same one in symmetric formats): the error of each column
/// over what the method divides it by, squared and added up.
WeightCodes textbook_groups(const at::Tensor& weight, const at::Tensor& gram, const QuantizerFormat& format,
                            const std::vector<double>& factors) {
  const at::Tensor damped =
      gram.to(at::kDouble) + 0.01 * gram.diagonal().mean().item<double>() * at::eye(gram.size(0), at::kDouble);
  at::Tensor inverse = damped.inverse();
  // What a column is divided by when its turn comes.
  std::vector<double> divisor;
  for (at::Tensor rest = inverse.clone(); std::ssize(divisor) < gram.size(0);) {
    const std::int64_t i = std::ssize(divisor);
    divisor.push_back(rest[i][i].item<double>());
    rest = rest - at::outer(rest.select(1, i), rest[i]) / rest[i][i];
  }
  at::Tensor left = weight.to(at::kDouble).clone();
  WeightCodes result{at::empty_like(weight),
                     {at::empty({weight.size(0), format.groups(weight.size(1))}, at::kDouble), {}}};
  if (!format.symmetric) result.scales.zero_point = at::empty_like(result.scales.scale);
  for (std::int64_t i = 0; i < weight.size(1); ++i) {
    if (i % format.group == 0) {
      const std::int64_t count = std::min(format.group, weight.size(1) - i);
      for (std::int64_t row = 0; row < weight.size(0); ++row) {
        const at::Tensor values = left[row].narrow(0, i, count);
        double least = INFINITY;
        for (std::size_t high = 0; high < factors.size(); ++high) {
          for (std::size_t low = 0; low < factors.size(); ++low) {
            const auto apart = std::abs(static_cast<int>(high) - static_cast<int>(low));
            if (apart > (format.symmetric ? 0 : 4)) continue;
            const ScaleTensors scales =
                slice_scales(values.amin(), values.amax(), at::scalar_tensor(factors[high], at::kDouble),
                             at::scalar_tensor(factors[low], at::kDouble), format);
            const at::Tensor difference = values - fake_quantize(values, scales, format);
            double error = 0;
            for (std::int64_t c = 0; c < count; ++c) {
              error += std::pow(difference[c].item<double>(), 2) / divisor[static_cast<std::size_t>(i + c)];
            }
            if (error >= least) continue;
            least = error;
            result.scales.scale[row][i / format.group] = scales.scale;
            if (!format.symmetric) result.scales.zero_point[row][i / format.group] = scales.zero_point;
          }
        }
      }
    }
    ScaleTensors column{result.scales.scale.select(1, i / format.group), {}};
    if (!format.symmetric) column.zero_point = result.scales.zero_point.select(1, i / format.group);
    const at::Tensor code = quantize(left.select(1, i), column, format);
    result.codes.select(1, i).copy_(code);
    const at::Tensor error = (left.select(1, i) - dequantize(code, column)) / inverse[i][i];
    left = left - at::outer(error, inverse[i]);
    inverse = inverse - at::outer(inverse.select(1, i), inverse[i]) / inverse[i][i];
  }
  return result;
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

TEST_F(Gptq, ChoosesTheScalesOfAGroupForWhatIsLeftOfIt) {
  SearchSettings search;
  search.weight_step = 0.1;
  for (const bool symmetric : {true, false}) {
    const QuantizerFormat format{4, symmetric, ScaleMode::static_scale, Granularity::group, 32};
    ASSERT_TRUE(chooses_group_scales(format));
    const at::Tensor clip = at::ones({24, format.groups(columns)});
    at::Tensor compensated;
    const WeightCodes codes = quantize_weight_compensated(weight, clip, factor, format, &search, &compensated);
    EXPECT_TRUE(quantize_with_scales(compensated, codes.scales, format).equal(codes.codes));
    const WeightCodes expected = textbook_groups(weight, gram, format, grids::weight_clip(search));
    const auto rows_that_agree = [&](const WeightCodes& found) {
      const at::Tensor same =
          found.codes.eq(expected.codes).all(1) &
          (found.scales.scale - expected.scales.scale).abs().le(1e-4 * expected.scales.scale).all(1);
      return same.sum().item<std::int64_t>();
    };
    EXPECT_GE(rows_that_agree(codes), 20);
    EXPECT_EQ(rows_that_agree(quantize_weight_compensated(weight, clip, factor, format)), 0);
  }
}

TEST_F(Gptq, ChoosesTheSameScalesInFusedLoopsAndInTensors) {
  SearchSettings search;
  search.weight_step = 0.1;
  QuantizerFormat format{4, false, ScaleMode::static_scale, Granularity::group, 64};
  for (const bool two_level : {false, true}) {
    format.two_level = two_level;
    const at::Tensor clip = at::ones({24, format.groups(columns)});
    const WeightCodes fused = quantize_weight_compensated(weight, clip, factor, format, &search);
    const WeightCodes tensors =
        quantize_weight_compensated(weight.to(at::kDouble), clip, factor.to(at::kDouble), format, &search);
    EXPECT_GE(fused.codes.eq(tensors.codes).all(1).sum().item<std::int64_t>(), 20) << two_level;
    const WeightCodes fixed = quantize_weight_compensated(weight, clip, factor, format);
    EXPECT_LT(error(fused, format), 0.97 * error(fixed, format)) << two_level;
    if (!two_level) continue;
    const ScaleTensors held = snapped(fused.scales, format);
    EXPECT_TRUE(held.scale.equal(fused.scales.scale) && held.zero_point.equal(fused.scales.zero_point));
  }
}

TEST_F(Gptq, LeavesScalesOfGroupsThatBlocksCut) {
  const QuantizerFormat format{4, false, ScaleMode::static_scale, Granularity::group, 48};
  EXPECT_FALSE(chooses_group_scales(format));
  const at::Tensor clip = at::full({24, format.groups(columns)}, 0.9F);
  const SearchSettings search;
  EXPECT_TRUE(quantize_weight_compensated(weight, clip, factor, format, &search)
                  .scales.scale.equal(quantize_weight(weight, clip, format).scales.scale));
}

TEST_F(Gptq, ColumnsCostWhatLaterOnesCannotMakeUpFor) {
  // Of two inputs that are nearly the same the first one's error is made up for, the last one's is not.
  at::Tensor twins = inputs.clone();
  twins.select(1, 0).copy_(twins.select(1, 1) + 0.01 * at::randn({600}));
  const at::Tensor importance =
      column_importance(compensation_factor(at::mm(twins.t(), twins), "twins")) / at::mm(twins.t(), twins).diagonal();
  EXPECT_LT(importance[0].item<float>(), 0.2 * importance[columns - 1].item<float>());
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
