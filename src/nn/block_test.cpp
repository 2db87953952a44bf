#include "nn/block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "base/error.h"
#include "model/spec_for_test.h"
#include "nn/block_for_test.h"
#include "nn/dense_attention_for_test.h"
#include "nn/model_context.h"
#include "numerics/hadamard.h"

namespace pq::nn {
namespace {

const auto f64 = at::TensorOptions().dtype(at::kDouble);

double max_difference(const at::Tensor& a, const at::Tensor& b) {
  EXPECT_EQ(a.sizes(), b.sizes());
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

ModelSpec biased_spec() {
  ModelSpec spec = small_spec(24, 44, 6, 2, 8);
  spec.qkv_bias = true;
  return spec;
}

class BlockTest : public ::testing::Test {
 protected:
  BlockTest() { at::manual_seed(7); }
  const ModelSpec spec = biased_spec();
  const ModelContext plain{spec, {}, 400, f64};
  const ModelContext rotated_online{spec, online_rotations(spec, {}), 400, f64};
  const Block block = random_block(spec, f64, 0.2);
  BlockContext context = plain.block(0);
};

struct AttentionCase {
  std::int64_t batch, tokens, past, pinned, kv_heads, group, dim, window;
};

class AttendTest : public ::testing::TestWithParam<AttentionCase> {};

TEST_P(AttendTest, EqualsDenseAttention) {
  const AttentionCase c = GetParam();
  at::manual_seed(1);
  const std::int64_t keys = c.pinned + c.past + c.tokens;
  const Qkv qkv{at::randn({c.batch, c.tokens, c.kv_heads * c.group, c.dim}, f64) * 2,
                at::randn({c.batch, keys, c.kv_heads, c.dim}, f64), at::randn({c.batch, keys, c.kv_heads, c.dim}, f64)};
  const at::Tensor expected = dense_attention(qkv, c.pinned, c.window);
  const ModelSpec spec{.head_dim = c.dim};
  const double scale = spec.score_scale();
  for (const bool gradients : {false, true}) {
    const at::AutoGradMode mode(gradients);
    EXPECT_LT(max_difference(attend(qkv, c.pinned, c.window, scale), expected), 1e-13);
  }
  const Qkv narrow{qkv.q.to(at::kFloat), qkv.k.to(at::kFloat), qkv.v.to(at::kFloat)};
  EXPECT_LT(max_difference(attend(narrow, c.pinned, c.window, scale), expected), 5e-6);

  // The same with the pinned tokens as a prefix, which is shared by all sequences of a batch.
  const KeyValue prefix{qkv.k.narrow(0, 0, 1).narrow(1, 0, c.pinned), qkv.v.narrow(0, 0, 1).narrow(1, 0, c.pinned)};
  const auto whole = [&](const at::Tensor& shared, const at::Tensor& x) {
    return at::cat({shared.expand({c.batch, -1, -1, -1}), x.narrow(1, c.pinned, keys - c.pinned)}, 1);
  };
  BlockContext context;
  context.spec = &spec;
  context.prefix = &prefix;
  context.window = c.window;
  const Qkv body{qkv.q, qkv.k.narrow(1, c.pinned, keys - c.pinned), qkv.v.narrow(1, c.pinned, keys - c.pinned)};
  EXPECT_LT(max_difference(
                attend(context, body),
                dense_attention({qkv.q, whole(prefix.key, qkv.k), whole(prefix.value, qkv.v)}, c.pinned, c.window)),
            1e-13);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, AttendTest,
    ::testing::Values(AttentionCase{1, 1, 0, 0, 1, 1, 4, 0},       //
                      AttentionCase{2, 7, 0, 0, 2, 3, 6, 0},       //
                      AttentionCase{1, 201, 0, 0, 2, 8, 10, 0},    // four tiles, the last one partial
                      AttentionCase{2, 201, 0, 3, 1, 8, 10, 0},    //
                      AttentionCase{1, 201, 0, 0, 2, 8, 10, 1},    // sees itself alone
                      AttentionCase{1, 201, 0, 3, 2, 8, 10, 5},    // window inside a tile
                      AttentionCase{1, 201, 0, 3, 2, 8, 10, 64},   // as long as a tile
                      AttentionCase{2, 201, 0, 3, 2, 8, 10, 65},   //
                      AttentionCase{1, 201, 0, 1, 2, 8, 10, 150},  //
                      AttentionCase{1, 201, 0, 1, 2, 8, 10, 500},  // longer than all
                      AttentionCase{3, 1, 40, 2, 2, 2, 8, 0},      // decoding with a cache
                      AttentionCase{3, 1, 40, 2, 2, 2, 8, 9},      //
                      AttentionCase{1, 70, 33, 2, 1, 12, 8, 0},    // a chunk behind a cache
                      AttentionCase{1, 70, 33, 2, 1, 12, 8, 30}, AttentionCase{1, 600, 5, 0, 3, 1, 4, 0}));

TEST(Attend, ComparisonSeesWindowAndPinnedTokens) {
  const auto random = [](std::int64_t tokens) { return at::randn({1, tokens, 2, 8}, f64); };
  const Qkv qkv{random(40), random(43), random(43)};
  EXPECT_GT(max_difference(attend(qkv, 3, 6, ModelSpec{.head_dim = 8}.score_scale()), dense_attention(qkv, 0, 6)),
            1e-2);
  EXPECT_GT(max_difference(attend(qkv, 3, 6, ModelSpec{.head_dim = 8}.score_scale()), dense_attention(qkv, 3, 7)),
            1e-2);
}

TEST(Attend, TilesCoverWhatIsSeenAndNoMore) {
  for (const std::int64_t window : {0, 1, 63, 64, 65, 300}) {
    std::int64_t next = 0;
    for (const AttentionTile& tile : attention_tiles(1000, 1100, 8, window)) {
      EXPECT_EQ(tile.first_query, next);
      next += tile.queries;
      EXPECT_EQ(tile.first_key + tile.keys, 100 + next);
      EXPECT_EQ(tile.first_key, window == 0 ? 0 : std::max<std::int64_t>(0, 100 + tile.first_query - window + 1));
    }
    EXPECT_EQ(next, 1000);
  }
}

TEST_F(BlockTest, PrefixEqualsConcatenatedRun) {
  const at::Tensor x = at::randn({2, 90, spec.hidden_size}, f64);
  const at::Tensor prefix_x = at::randn({1, 4, spec.hidden_size}, f64);
  KeyValue prefix;
  forward(block, context, prefix_x, {}, &prefix);
  const at::Tensor whole = forward(block, context, at::cat({prefix_x.expand({2, -1, -1}), x}, 1));
  context.prefix = &prefix;
  const at::Tensor behind = forward(block, context, x);
  EXPECT_LT(max_difference(behind, whole.narrow(1, 4, 90)), 1e-12);
  EXPECT_GT(max_difference(forward(block, plain.block(0), x), behind), 1e-2);
}

TEST_F(BlockTest, WindowWithPinnedPrefixEqualsDenseMask) {
  const at::Tensor x = at::randn({1, 150, spec.hidden_size}, f64);
  KeyValue prefix;
  forward(block, context, at::randn({1, 3, spec.hidden_size}, f64), {}, &prefix);
  context.prefix = &prefix;
  context.window = 11;
  Qkv qkv = project_qkv(block, context, qkv_input(block, context, x, {}), 3, {});
  qkv.k = at::cat({prefix.key, qkv.k}, 1);
  qkv.v = at::cat({prefix.value, qkv.v}, 1);
  const at::Tensor middle = attention_output(block, context, x, dense_attention(qkv, 3, 11), {});
  const at::Tensor expected = mlp_output(
      block, context, middle, gated_product(block, context, gate_up_input(block, context, middle, {}), {}), {});
  EXPECT_LT(max_difference(forward(block, context, x), expected), 1e-12);
}

TEST_F(BlockTest, DecodingWithACacheEqualsOnePass) {
  context = rotated_online.block(0);
  for (const std::int64_t window : {0, 6}) {
    context.window = window;
    const at::Tensor x = at::randn({2, 40, spec.hidden_size}, f64);
    const at::Tensor whole = forward(block, context, x);
    KeyValue cache;
    at::Tensor part = forward(block, context, x.narrow(1, 0, 33), {}, &cache);
    EXPECT_LT(max_difference(part, whole.narrow(1, 0, 33)), 1e-12);
    for (std::int64_t i = 33; i < 40; ++i) {
      KeyValue present;
      part = forward(block, context, x.narrow(1, i, 1), {}, &present, &cache);
      EXPECT_LT(max_difference(part, whole.narrow(1, i, 1)), 1e-12);
      cache = {at::cat({cache.key, present.key}, 1), at::cat({cache.value, present.value}, 1)};
    }
  }
}

// R3 turns Q and K alike, and R4 is undone by a rotated down_proj: the block computes what it computed.
TEST_F(BlockTest, OnlineRotationsCancel) {
  const Hadamard r4(spec.intermediate_size, f64);
  const at::Tensor x = at::randn({1, 20, spec.hidden_size}, f64);
  const at::Tensor expected = forward(block, context, x);
  const ModelContext r3_alone(spec, online_rotations(spec, {.r3 = true, .r4 = false}), 400, f64);
  EXPECT_LT(max_difference(forward(block, r3_alone.block(0), x), expected), 1e-12);
  context = rotated_online.block(0);
  Block rotated = block;
  rotated[LinearId::down].weight = r4.apply(block[LinearId::down].weight);
  EXPECT_LT(max_difference(forward(rotated, context, x), expected), 1e-12);
  rotated[LinearId::down].weight = r4.apply_transposed(block[LinearId::down].weight);
  EXPECT_GT(max_difference(forward(rotated, context, x), expected), 1e-2);
}

// A vector that is taken out of all keys, the prefix's too, adds the same to all scores of a query.
TEST_F(BlockTest, KeysWithoutTheirMeanGiveTheSameBlock) {
  context = rotated_online.block(0);
  const at::Tensor x = at::randn({2, 60, spec.hidden_size}, f64);
  const at::Tensor prefix_x = at::randn({1, 3, spec.hidden_size}, f64);
  Block centered = block;
  centered.key_frame.mean = 3 * at::randn({spec.kv_head_count, spec.head_dim}, f64);
  KeyValue prefix, centered_prefix;
  forward(block, context, prefix_x, {}, &prefix);
  forward(centered, context, prefix_x, {}, &centered_prefix);
  EXPECT_LT(max_difference(centered_prefix.key + centered.key_frame.mean, prefix.key), 1e-12);
  for (const std::int64_t window : {0, 11}) {
    context.window = window;
    context.prefix = &prefix;
    const at::Tensor expected = forward(block, context, x);
    EXPECT_GT(max_difference(forward(centered, context, x), expected), 1e-2);  // keys of two kinds
    context.prefix = &centered_prefix;
    EXPECT_LT(max_difference(forward(centered, context, x), expected), 1e-12);
  }
}

// Each KV head's K in a basis of its own, and the Q that read it in the inverse one, transposed.
TEST_F(BlockTest, KeysInAnotherBasisGiveTheSameBlock) {
  context = rotated_online.block(0);
  const at::Tensor x = at::randn({2, 60, spec.hidden_size}, f64);
  const at::Tensor prefix_x = at::randn({1, 3, spec.hidden_size}, f64);
  Block changed = block;
  changed.key_frame.basis = at::randn({spec.kv_head_count, spec.head_dim, spec.head_dim}, f64);
  changed.key_frame.query_basis = at::linalg_inv(changed.key_frame.basis).transpose(1, 2).contiguous();
  KeyValue prefix, changed_prefix;
  forward(block, context, prefix_x, {}, &prefix);
  forward(changed, context, prefix_x, {}, &changed_prefix);
  context.prefix = &prefix;
  const at::Tensor expected = forward(block, context, x);
  context.prefix = &changed_prefix;
  EXPECT_LT(max_difference(forward(changed, context, x), expected), 1e-10);
  changed.key_frame.query_basis = changed.key_frame.query_basis.flip(0);
  EXPECT_GT(max_difference(forward(changed, context, x), expected), 1e-2);
}

TEST_F(BlockTest, TapsVisitEverySiteInOrderWithItsShape) {
  const Hadamard r4(spec.intermediate_size, f64);
  context = rotated_online.block(0);
  std::vector<Site> order;
  std::vector<std::vector<std::int64_t>> shapes;
  at::Tensor product, down_input;
  const Tap tap = [&](Site site, const at::Tensor& x) {
    order.push_back(site);
    shapes.push_back(x.sizes().vec());
    if (site == Site::down_product) product = x;
    if (site == Site::down_input) down_input = x;
    return x;
  };
  const at::Tensor x = at::randn({2, 5, spec.hidden_size}, f64);
  const at::NoGradGuard no_grad;
  const at::Tensor watched = forward(block, context, x, tap);
  EXPECT_THAT(order, ::testing::ElementsAre(Site::qkv_input, Site::query, Site::key, Site::k_cache, Site::v_cache,
                                            Site::o_input, Site::gate_up_input, Site::down_product, Site::down_input,
                                            Site::block_output));
  using Shape = std::vector<std::int64_t>;
  EXPECT_THAT(shapes, ::testing::ElementsAre(Shape{2, 5, 24}, Shape{2, 5, 6, 8}, Shape{2, 5, 2, 8}, Shape{2, 5, 2, 8},
                                             Shape{2, 5, 2, 8}, Shape{2, 5, 48}, Shape{2, 5, 24}, Shape{2, 5, 44},
                                             Shape{2, 5, 44}, Shape{2, 5, 24}));
  EXPECT_EQ(max_difference(watched, forward(block, context, x)), 0);
  // What was watched must not have been overwritten since.
  EXPECT_EQ(max_difference(r4.apply(product), down_input), 0);
}

TEST_F(BlockTest, TapsReplace) {
  const at::Tensor x = at::randn({1, 9, spec.hidden_size}, f64);
  const at::Tensor expected = forward(block, context, x);
  for (const Site target : {Site::qkv_input, Site::query, Site::key, Site::k_cache, Site::v_cache, Site::o_input,
                            Site::gate_up_input, Site::down_product, Site::down_input, Site::block_output}) {
    const Tap tap = [&](Site site, const at::Tensor& y) { return site == target ? y + 0.25 * y.sin() : y; };
    EXPECT_GT(max_difference(forward(block, context, x, tap), expected), 1e-4) << site_name(target);
  }
  KeyValue present;
  forward(
      block, context, x, [](Site site, const at::Tensor& y) { return is_kv(site) ? at::ones_like(y) : y; }, &present);
  EXPECT_EQ(max_difference(present.key, at::ones_like(present.key)), 0);
  EXPECT_EQ(max_difference(present.value, at::ones_like(present.value)), 0);
}

TEST_F(BlockTest, InputIsLeftAlone) {
  const at::NoGradGuard no_grad;
  const at::Tensor x = at::randn({1, 9, spec.hidden_size}, f64);
  const at::Tensor copy = x.clone();
  forward(block, context, x);
  EXPECT_EQ(max_difference(x, copy), 0);
}

TEST_F(BlockTest, GradientsAreThoseOfFiniteDifferences) {
  context = rotated_online.block(0);
  context.window = 5;
  KeyValue prefix;
  forward(block, context, at::randn({1, 2, spec.hidden_size}, f64), {}, &prefix);
  context.prefix = &prefix;
  const at::Tensor x = at::randn({1, 12, spec.hidden_size}, f64);
  const at::Tensor weights = at::randn({1, 12, spec.hidden_size}, f64);
  const auto loss_of = [&](const Block& b, const at::Tensor& input) {
    return (forward(b, context, input) * weights).sum();
  };
  for (const LinearId id : all_linears) {
    Block traced = block;
    traced[id].weight = block[id].weight.clone().requires_grad_(true);
    const at::Tensor input = x.clone().requires_grad_(true);
    loss_of(traced, input).backward();
    const at::Tensor direction = at::randn_like(block[id].weight), input_direction = at::randn_like(x);
    const double step = 1e-5;
    const auto moved = [&](double sign) {
      Block other = block;
      other[id].weight = block[id].weight + sign * step * direction;
      return loss_of(other, x + sign * step * input_direction).item<double>();
    };
    const double slope = (moved(1) - moved(-1)) / (2 * step);
    const double gradient =
        ((traced[id].weight.grad() * direction).sum() + (input.grad() * input_direction).sum()).item<double>();
    EXPECT_NEAR(gradient, slope, 1e-6 * (1 + std::abs(slope)));
  }
}

TEST_F(BlockTest, RopeTurnsPairsByPositionTimesFrequency) {
  const at::Tensor x = at::randn({1, 3, 2, 8}, f64);
  const Rope rope(PlainRope{}, 8, 400, f64);
  const at::Tensor y = rope.apply(x, 17);
  for (std::int64_t t = 0; t < 3; ++t) {
    for (std::int64_t i = 0; i < 4; ++i) {
      const double angle = static_cast<double>(17 + t) * std::pow(10000.0, -static_cast<double>(i) / 4.0);
      const double a = x[0][t][1][i].item<double>(), b = x[0][t][1][i + 4].item<double>();
      EXPECT_NEAR(y[0][t][1][i].item<double>(), a * std::cos(angle) - b * std::sin(angle), 1e-13);
      EXPECT_NEAR(y[0][t][1][i + 4].item<double>(), b * std::cos(angle) + a * std::sin(angle), 1e-13);
    }
  }
  const at::NoGradGuard no_grad;
  EXPECT_LT(max_difference(rope.apply(x, 17), y), 1e-15);
  EXPECT_THROW(rope.apply(x, 398), InputError);
}

TEST(RmsNorm, SquaresInFloat32) {
  const at::Tensor x = at::randn({4, 512}) * 300;
  const at::Tensor gamma = at::rand({512}) + 0.5;
  const auto exact = [&](const at::Tensor& y, const at::Tensor& g) {
    const at::Tensor wide = y.to(at::kDouble);
    return wide / at::sqrt(wide.square().mean(-1, true) + 1e-5) * g.to(at::kDouble);
  };
  EXPECT_LT(max_difference(rms_norm(x, gamma, 1e-5), exact(x, gamma)), 4e-6);
  // bfloat16 has 8 significant bits; the sum of squares of 512 terms would lose most of them in bfloat16.
  const at::Tensor low = x.to(at::kBFloat16), low_gamma = gamma.to(at::kBFloat16);
  const at::Tensor expected = exact(low, low_gamma);
  EXPECT_LT(((rms_norm(low, low_gamma, 1e-5) - expected).abs() / (expected.abs() + 1e-3)).max().item<double>(), 0.009);
  EXPECT_EQ(rms_norm(low, low_gamma, 1e-5).scalar_type(), at::kBFloat16);
}

class HadamardTest : public ::testing::TestWithParam<std::int64_t> {};

TEST_P(HadamardTest, EqualsTheScalarDefinitionInBothDirections) {
  const std::int64_t order = GetParam();
  const HadamardPlan plan = plan_hadamard(order);
  const Hadamard hadamard(order, f64);
  EXPECT_EQ(hadamard.order(), order);
  at::manual_seed(order);
  const at::Tensor x = at::randn({2, 3, order}, f64);
  for (const bool transposed : {false, true}) {
    at::Tensor expected = x.clone();
    for (std::int64_t row = 0; row < 6; ++row) {
      const std::span<double> values(expected.data_ptr<double>() + row * order, static_cast<std::size_t>(order));
      transposed ? apply_hadamard_transposed(plan, values) : apply_hadamard(plan, values);
    }
    const at::Tensor actual = transposed ? hadamard.apply_transposed(x) : hadamard.apply(x);
    EXPECT_LT(max_difference(actual, expected), 1e-12);
  }
  EXPECT_LT(max_difference(hadamard.apply_transposed(hadamard.apply(x)), x), 1e-12);
  EXPECT_LT(max_difference(hadamard.apply(x.transpose(0, 1)), hadamard.apply(x).transpose(0, 1)), 1e-15);
  EXPECT_EQ(hadamard.apply(x.to(at::kFloat)).scalar_type(), at::kFloat);
}

// 44, 704: Paley I, not symmetric; 36: Paley II; 92 * 3 has no construction and falls into blocks.
INSTANTIATE_TEST_SUITE_P(Orders, HadamardTest,
                         ::testing::Values(1, 2, 12, 20, 24, 36, 44, 64, 96, 128, 256, 344, 384, 576, 704, 1536, 4096,
                                           5632, 6, 40, 97, 552));

TEST(Hadamard, ComparisonSeesTheDirection) {
  const at::Tensor x = at::randn({4, 44}, f64);
  const Hadamard hadamard(44, f64);
  EXPECT_GT(max_difference(hadamard.apply(x), hadamard.apply_transposed(x)), 0.1);
}

TEST(Hadamard, RefusesAnotherRowLength) { EXPECT_THROW(Hadamard(44, f64).apply(at::zeros({2, 45}, f64)), InputError); }

}  // namespace
}  // namespace pq::nn
