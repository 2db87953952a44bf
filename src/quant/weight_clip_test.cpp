#include "quant/weight_clip.h"

#include <gtest/gtest.h>

namespace pq::quant {
namespace {

/// The errors [out, groups] of these clip factors, column by column.
at::Tensor errors_of(const at::Tensor& weight, const at::Tensor& power, const at::Tensor& clip,
                     const QuantizerFormat& format) {
  const at::Tensor rounded = dequantize_weight(quantize_weight(weight, clip, format), format);
  const at::Tensor by_column = (weight - rounded).square() * power;
  at::Tensor errors = at::zeros(clip.sizes());
  for (std::int64_t column = 0; column < weight.size(1); ++column) {
    errors.select(1, clip.size(1) == 1 ? 0 : column / format.group).add_(by_column.select(1, column));
  }
  return errors;
}

TEST(WeightClip, IsTheBestOfTheGridForEachChannelAndGroup) {
  at::manual_seed(7);
  const SearchSettings settings;
  for (const std::int64_t columns : {48, 42, 41}) {  // whole groups, and last ones of 10 and 9
    for (const std::int64_t group : {0, 16}) {
      const QuantizerFormat format{3, group == 0, ScaleMode::static_scale,
                                   group == 0 ? Granularity::channel : Granularity::group, group};
      const at::Tensor weight = at::randn({300, columns});
      at::Tensor power = at::rand({columns}) + 0.1;
      power[columns - 1] = 3;
      const at::Tensor found = errors_of(weight, power, search_weight_clip(weight, power, format, settings), format);
      for (const double factor : grids::weight_clip(settings)) {
        const at::Tensor clip = at::full({300, format.groups(columns)}, factor);
        EXPECT_TRUE((found <= errors_of(weight, power, clip, format) * (1 + 1e-5)).all().item<bool>())
            << columns << " " << group << " " << factor;
      }
    }
  }
}

}  // namespace
}  // namespace pq::quant
