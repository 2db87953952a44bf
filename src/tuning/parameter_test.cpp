#include "tuning/parameter.h"

#include <gtest/gtest.h>

namespace pq::quant {
namespace {

const at::Tensor start = at::tensor({0.5F, -2.0F});

TEST(Parameter, ItsKindAloneDecidesTheValuesItMayTake) {
  const at::NoGradGuard no_grad;
  const auto after = [](ParameterKind kind, double value) {
    const Parameter parameter = make_parameter("scale.zero_point.weight", kind, start, 1);
    parameter.value.fill_(value);
    keep_in_range({parameter});
    return parameter.value;
  };
  for (const ParameterKind kind : {ParameterKind::weight_scale, ParameterKind::site_scale, ParameterKind::site_clip}) {
    EXPECT_TRUE(at::equal(after(kind, -1), at::tensor({0.005F, 0.02F})));
    EXPECT_TRUE(after(kind, 1e9).eq(1e9).all().item<bool>());
  }
  for (const ParameterKind kind : {ParameterKind::weight_zero_point, ParameterKind::site_zero_point}) {
    EXPECT_TRUE(after(kind, -1e9).eq(-32767).all().item<bool>());
    EXPECT_TRUE(after(kind, 1e9).eq(32767).all().item<bool>());
  }
  EXPECT_TRUE(after(ParameterKind::weight, -1e9).eq(-1e9).all().item<bool>());
}

TEST(Parameter, IsALeafOfItsOwn) {
  const Parameter tuned = make_parameter("a", ParameterKind::weight, start, 0.1);
  EXPECT_TRUE(tuned.value.requires_grad() && tuned.value.is_leaf());
  EXPECT_NE(tuned.value.data_ptr(), start.data_ptr());
  EXPECT_TRUE(at::equal(tuned.value, start));
  EXPECT_FALSE(make_parameter("a", ParameterKind::weight, start, 0).value.requires_grad());
}

}  // namespace
}  // namespace pq::quant
