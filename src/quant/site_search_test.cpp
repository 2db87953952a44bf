#include "quant/site_search.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/spec_for_test.h"
#include "nn/block_for_test.h"
#include "nn/model_context.h"

namespace pq::quant {
namespace {

class SiteSearch : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(3);
    x = at::randn({3000, 96}) * at::rand({3000, 1}).exp();  // tokens of different sizes
    weights = {at::randn({80, 96}), at::randn({700, 96})};
    range = static_slices(Site::qkv_input, x);
    whole = at::cat(weights);
  }
  double error(const SiteFakeQuantizer& quantizer) const {
    return at::mm(quantizer(x) - x, whole.t()).square().sum(at::kDouble).item<double>();
  }
  /// The least error over all factors from 0.1 to 1.2, on all rows, by all weights.
  double exhaustive(const QuantizerFormat& format) const {
    double best = std::numeric_limits<double>::infinity();
    for (int hundredths = 10; hundredths <= 120; ++hundredths) {
      const auto factor = static_cast<float>(hundredths) / 100;
      const at::Tensor tensor = at::full({1}, factor);
      best = std::min(
          best, error(format.is_static() ? SiteFakeQuantizer(Site::qkv_input, format,
                                                             slice_scales(range.min, range.max, tensor, tensor, format))
                                         : SiteFakeQuantizer(Site::qkv_input, format, factor, factor)));
    }
    return best;
  }
  const at::NoGradGuard no_grad;
  at::Tensor x;
  std::vector<at::Tensor> weights;
  at::Tensor whole;
  MinMaxTensors range;
};

TEST_F(SiteSearch, ComesWithinAPercentOfTheExhaustiveGrid) {
  for (const int bits : {4, 8}) {
    for (const bool fixed : {true, false}) {
      const QuantizerFormat format{bits, true, fixed ? ScaleMode::static_scale : ScaleMode::dynamic_scale,
                                   fixed ? Granularity::tensor : Granularity::token, 0};
      const at::Tensor sample = x.narrow(0, 0, 1500);
      const SiteChoice choice = search_input(Site::qkv_input, format, sample, sketch(weights, 64, 1), range);
      const double best = exhaustive(format);
      const SiteFakeQuantizer found(Site::qkv_input, format, choice.quantizer, x.options());
      EXPECT_LE(error(found), 1.01 * best) << bits << fixed;
      EXPECT_LT(choice.evaluated, 20 * 1500);  // the grid above takes 111
      EXPECT_FALSE(choice.at_edge);
      if (bits == 4) {  // the start of the search, the whole range, would not do
        const SiteFakeQuantizer plain(Site::qkv_input, format, fixed_site_quantizer(range, format), x.options());
        EXPECT_GT(error(plain), 1.05 * best) << fixed;
      }
    }
  }
}

TEST_F(SiteSearch, AsymmetricDynamicClipFactorsAreFoundOneBehindTheOther) {
  const QuantizerFormat format{4, false, ScaleMode::dynamic_scale, Granularity::token, 0};
  x = x + 3 * at::rand({3000, 1});
  const SiteChoice choice = search_input(Site::qkv_input, format, x, sketch(weights, 64, 1), {});
  const auto [gamma, beta] = choice.quantizer.clip;
  const double found = error(SiteFakeQuantizer(Site::qkv_input, format, gamma, beta));
  for (const float step : {-0.1F, 0.1F}) {
    EXPECT_LE(found, error(SiteFakeQuantizer(Site::qkv_input, format, gamma + step, beta)) * 1.002);
    EXPECT_LE(found, error(SiteFakeQuantizer(Site::qkv_input, format, gamma, beta + step)) * 1.002);
  }
}

TEST_F(SiteSearch, ASketchKeepsTheErrorOfRandomRows) {
  const at::Tensor small = sketch(weights, 64, 1);
  EXPECT_EQ(small.size(0), 64);
  const double exact = at::mm(x, whole.t()).square().sum(at::kDouble).item<double>();
  EXPECT_NEAR(at::mm(x, small.t()).square().sum(at::kDouble).item<double>(), exact, 0.1 * exact);
  EXPECT_TRUE(sketch(weights, 400, 1).equal(whole));  // nothing to gain
  EXPECT_FALSE(small.equal(sketch(weights, 64, 2)));
}

/// A block whose K and V are searched, behind a prefix.
class CacheSearch : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(11);
    block = nn::random_block(spec, at::kFloat, 0.3);
    model = nn::ModelContext(spec, {}, 200, at::kFloat);
    prefix = {at::randn({1, 2, 2, 8}), at::randn({1, 2, 2, 8})};
    const at::Tensor x = at::randn({2, 150, spec.hidden_size});
    context = model.block(0, &prefix);
    qkv = nn::project_qkv(block, context, nn::qkv_input(block, context, x, {}), 2, {});
    qkv.k.mul_(at::randn({1, 1, 2, 8}).exp());
  }
  /// Error of each KV head's scores, of all queries against the keys that they see, from the definition.
  at::Tensor score_error(const at::Tensor& keys) const {
    const std::int64_t tokens = keys.size(1);
    const at::Tensor at_token = at::arange(tokens);
    const at::Tensor age = at_token.unsqueeze(1) - at_token;  // [queries, keys]
    at::Tensor seen = age >= 0;
    if (context.window > 0) seen = seen.logical_and(age < context.window);
    at::Tensor sum = at::zeros({2}, at::kDouble);
    for (std::int64_t head = 0; head < 4; ++head) {
      const at::Tensor errors = (keys - qkv.k).select(2, head / 2);  // [batch, keys, head_dim]
      const at::Tensor scores = at::bmm(qkv.q.select(2, head), errors.transpose(1, 2));
      sum[head / 2] += (scores * seen).square().sum(at::kDouble);
    }
    return sum;
  }
  const at::NoGradGuard no_grad;
  ModelSpec spec = small_spec(24, 40, 4, 2, 8);
  nn::Block block;
  nn::ModelContext model;
  nn::KeyValue prefix;
  nn::BlockContext context;
  nn::Qkv qkv;
};

TEST_F(CacheSearch, StaticKeyFactorsOfASampleServeAllQueries) {
  const QuantizerFormat format = named_recipe("w4a4kv4-static").kv;
  for (const std::int64_t window : {0, 40}) {
    context.window = window;
    const MinMaxTensors range = static_slices(Site::k_cache, qkv.k);
    const SiteChoice choice = search_keys(format, qkv, context, range);
    ASSERT_EQ(choice.quantizer.scale.size(), 2U);
    const at::Tensor found = score_error(SiteFakeQuantizer(Site::k_cache, format, choice.quantizer, at::kFloat)(qkv.k));
    for (int hundredths = 30; hundredths <= 110; hundredths += 5) {
      const at::Tensor clip = at::full({2}, static_cast<float>(hundredths) / 100);
      const ScaleTensors scales = slice_scales(range.min, range.max, clip, clip, format);
      const at::Tensor other = score_error(SiteFakeQuantizer(Site::k_cache, format, scales)(qkv.k));
      EXPECT_TRUE((found <= 1.15 * other).all().item<bool>()) << window << " " << hundredths;
    }
  }
}

TEST_F(CacheSearch, ValueFactorsMinimizeTheErrorOfTheValues) {
  for (const char* recipe : {"w4a4kv4-static", "w4a4kv4-dynamic"}) {
    const QuantizerFormat format = named_recipe(recipe).kv;
    const MinMaxTensors range = static_slices(Site::v_cache, qkv.v);
    const SiteChoice choice = search_values(format, qkv.v, range);
    const auto error = [&](const SiteFakeQuantizer& quantizer) {
      return (quantizer(qkv.v) - qkv.v).square().sum(at::kDouble).item<double>();
    };
    const double found = error(SiteFakeQuantizer(Site::v_cache, format, choice.quantizer, at::kFloat));
    for (int hundredths = 50; hundredths <= 110; hundredths += 10) {
      const auto factor = static_cast<float>(hundredths) / 100;
      const at::Tensor clip = at::full({2}, factor);
      const double other =
          format.is_static()
              ? error(SiteFakeQuantizer(Site::v_cache, format, slice_scales(range.min, range.max, clip, clip, format)))
              : error(SiteFakeQuantizer(Site::v_cache, format, factor, factor));
      EXPECT_LE(found, 1.001 * other) << recipe << hundredths;
    }
  }
}

}  // namespace
}  // namespace pq::quant
