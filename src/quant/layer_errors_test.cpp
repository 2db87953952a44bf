#include "quant/layer_errors.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "model/spec_for_test.h"
#include "nn/block_for_test.h"
#include "nn/model_context.h"
#include "quant/quantizer.h"

namespace pq::quant {
namespace {

/// Inputs rounded to tenths, weights to quarters, K and V to halves: easy to do again by hand.
class LayerErrorsTest : public testing::Test {
 protected:
  void SetUp() override {
    at::manual_seed(5);
    whole = nn::random_block(spec, at::kFloat, 0.3);
    rounded = whole;
    for (const LinearId id : all_linears) rounded[id].weight = (whole[id].weight * 4).round() / 4;
    model = nn::ModelContext(spec, {}, 32, at::kFloat);
    prefix = {at::randn({1, 2, 2, 8}), at::randn({1, 2, 2, 8})};
    context = model.block(0, &prefix);
    x = at::randn({2, 12, spec.hidden_size});
  }
  static at::Tensor coarse(Site site, const at::Tensor& value) {
    if (is_kv(site)) return (value * 2).round() / 2;
    const bool input =
        site == Site::qkv_input || site == Site::o_input || site == Site::gate_up_input || site == Site::down_input;
    return input ? (value * 10).round() / 10 : value;
  }
  static double squares(const at::Tensor& value) { return value.square().sum(at::kDouble).item<double>(); }

  const at::NoGradGuard no_grad;
  ModelSpec spec = small_spec(32, 64, 4, 2, 8);
  nn::Block whole, rounded;
  nn::ModelContext model;
  nn::KeyValue prefix;
  nn::BlockContext context;
  at::Tensor x;
};

TEST_F(LayerErrorsTest, AreThoseOfADirectComputationOnStoredActivations) {
  std::map<Site, at::Tensor> stored;
  const at::Tensor expected = nn::forward(whole, context, x, [&](Site site, const at::Tensor& value) {
    stored[site] = value.clone();
    return value;
  });
  at::Tensor output;
  const LayerErrors errors = layer_errors(whole, rounded, coarse, context, x, output);
  EXPECT_TRUE(output.equal(nn::forward(rounded, context, x, coarse)));
  EXPECT_NEAR(errors.block, squares(output - expected) / squares(expected), 1e-9);
  for (const LinearId id : all_linears) {
    const at::Tensor input = stored.at(input_site(id)).to(at::kDouble);
    const at::Tensor quantized = coarse(input_site(id), stored.at(input_site(id))).to(at::kDouble);
    const at::Tensor w = whole[id].weight.to(at::kDouble), w4 = rounded[id].weight.to(at::kDouble);
    const at::Tensor y = at::matmul(input, w.t());
    const LinearError& error = errors.linears[id];
    EXPECT_NEAR(error.output, squares(at::matmul(quantized, w4.t()) - y) / squares(y), 1e-4 * error.output);
    EXPECT_NEAR(error.weights, squares(at::matmul(quantized, (w4 - w).t())) / squares(y), 1e-4 * error.weights);
    EXPECT_NEAR(error.inputs, squares(at::matmul(quantized - input, w.t())) / squares(y), 1e-4 * error.inputs);
    EXPECT_GT(error.weights, 0);
    EXPECT_GT(error.inputs, 0);
  }
  // down_proj's error goes into the residual stream as it is.
  const at::Tensor down = nn::apply(rounded[LinearId::down], coarse(Site::down_input, stored.at(Site::down_input))) -
                          nn::apply(whole[LinearId::down], stored.at(Site::down_input));
  const double direct = (down.square().sum(-1) / expected.square().sum(-1)).mean().item<double>();
  EXPECT_NEAR(errors.linears[LinearId::down].propagated, direct, 1e-4 * direct);
}

TEST_F(LayerErrorsTest, APartIsQuantizedAloneAndAllOfThemAreTheBlock) {
  QuantizedParts all;
  all.caches = true;
  for (const LinearId id : all_linears) all.weights[id] = all.inputs[id] = true;
  EXPECT_TRUE(forward_with(whole, rounded, coarse, all, context, x).equal(nn::forward(rounded, context, x, coarse)));
  EXPECT_TRUE(forward_with(whole, rounded, coarse, {}, context, x).equal(nn::forward(whole, context, x)));
  // v alone: q and k read what is whole.
  const QuantizedParts v = QuantizedParts::only(LinearId::v);
  nn::Block mixed = whole;
  mixed[LinearId::v] = rounded[LinearId::v];
  const at::Tensor h = nn::qkv_input(whole, context, x, {});
  nn::Qkv qkv = nn::project_qkv(whole, context, h, 2, {});
  qkv.v = nn::project_qkv(mixed, context, coarse(Site::qkv_input, h), 2, {}).v;
  const at::Tensor middle = nn::attention_output(whole, context, x, nn::attend(context, qkv), {});
  const at::Tensor by_hand = nn::mlp_output(
      whole, context, middle, nn::gated_product(whole, context, nn::gate_up_input(whole, context, middle, {}), {}), {});
  EXPECT_TRUE(forward_with(whole, rounded, coarse, v, context, x).equal(by_hand));
  // Its weights alone.
  QuantizedParts weights;
  weights.weights[LinearId::v] = true;
  EXPECT_TRUE(forward_with(whole, rounded, coarse, weights, context, x).equal(nn::forward(mixed, context, x)));
  // What q, k and v read alone.
  QuantizedParts inputs;
  for (const LinearId id : readers_of(Site::qkv_input)) inputs.inputs[id] = true;
  const nn::Tap at_qkv = [](Site site, const at::Tensor& value) {
    return site == Site::qkv_input ? coarse(site, value) : value;
  };
  EXPECT_TRUE(forward_with(whole, rounded, coarse, inputs, context, x).equal(nn::forward(whole, context, x, at_qkv)));
  // A variant that rounds what q and k read, too, is another.
  EXPECT_FALSE(nn::forward(mixed, context, x, at_qkv).equal(by_hand));
}

TEST_F(LayerErrorsTest, AWorseLayerIsFound) {
  nn::Block worse = whole;
  worse[LinearId::up].weight = (whole[LinearId::up].weight * 2).round() / 2;
  at::Tensor output;
  const LayerErrors errors = layer_errors(whole, worse, {}, context, x, output);
  for (const LinearId id : all_linears) {
    EXPECT_EQ(errors.linears[id].inputs, 0);
    if (id == LinearId::up) continue;
    EXPECT_EQ(errors.linears[id].propagated, 0);
  }
  EXPECT_GT(errors.linears[LinearId::up].output, 0.01);
  EXPECT_DOUBLE_EQ(errors.linears[LinearId::up].propagated, errors.block_propagated);
}

TEST_F(LayerErrorsTest, ComeBackFromJson) {
  at::Tensor output;
  LayerErrors errors = layer_errors(whole, rounded, coarse, context, x, output);
  errors.linears[LinearId::k].output = std::nan("");
  const LayerErrors back = layer_errors_from_json(parse_json(layer_errors_to_json(errors).dump(), "test"));
  EXPECT_EQ(back.block, errors.block);
  EXPECT_EQ(back.linears[LinearId::down].propagated, errors.linears[LinearId::down].propagated);
  EXPECT_TRUE(std::isnan(back.linears[LinearId::k].output));
  EXPECT_TRUE(std::isnan(layer_errors_from_json(Json::object()).linears[LinearId::q].weights));
}

}  // namespace
}  // namespace pq::quant
