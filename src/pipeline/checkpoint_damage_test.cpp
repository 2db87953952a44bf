#include "pipeline/checkpoint_damage.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <functional>
#include <memory>

#include "model/spec_for_test.h"
#include "nn/model_context.h"
#include "nn/transformer.h"
#include "pipeline/kind_streams.h"
#include "pipeline/pipeline.h"
#include "pipeline/preparation.h"
#include "pipeline/streams.h"
#include "quant/quantized_model.h"
#include "quant/recipe_transforms.h"
#include "quant/transform.h"

namespace pq::quant {
namespace {

namespace fs = std::filesystem;

const std::string sample = std::string(PQ_SOURCE_DIR) + "/examples/sample-model";
const auto floats = at::TensorOptions().dtype(at::kFloat);

/// In float64, from the definition.
double direct_kl(const at::Tensor& reference, const at::Tensor& model) {
  const at::Tensor p = at::log_softmax(reference.to(at::kDouble), -1);
  const at::Tensor q = at::log_softmax(model.to(at::kDouble), -1);
  return (p.exp() * (p - q)).sum(-1).mean().item<double>();
}

/// Two tokens, a hidden state of two channels, a vocabulary of two: by hand.
TEST(MeanKl, IsThatOfAHandMadeModel) {
  ModelSpec spec = small_spec(2, 2, 1, 1, 2);
  spec.vocab_size = 2;
  spec.rms_norm_eps = 0;
  // The norm takes (a, a) to (1, 1) and (a, -a) to (1, -1); the head gives logits (h0, h1) * ln 3.
  const Head head{spec, at::ones({2}), at::eye(2) * std::log(3.0)};
  const at::Tensor even = at::tensor({5.0F, 5.0F, 2.0F, 2.0F}).view({1, 2, 2});
  const at::Tensor odd = at::tensor({5.0F, -5.0F, 2.0F, 2.0F}).view({1, 2, 2});
  // Probabilities (1/2, 1/2), and in the first token of `odd` (9/10, 1/10): logits differ by 2 ln 3 = ln 9.
  const double kl = 0.5 * std::log(0.5 / 0.9) + 0.5 * std::log(0.5 / 0.1);
  const std::vector<double> found = mean_kl(head, even, {even, odd});
  EXPECT_EQ(found[0], 0);
  EXPECT_NEAR(found[1], kl / 2, 1e-6);
  EXPECT_GT(std::abs(mean_kl(head, odd, {even})[0] - kl / 2), 0.05);  // the other way round it is another number
  const at::Tensor tokens = at::tensor({0, 1}, at::kLong).view({1, 2});
  EXPECT_NEAR(perplexity(head, odd, tokens), 10, 1e-4);
}

TEST(Suspects, ShareTheirBlocksKl) {
  std::vector<LayerErrors> errors(2);
  errors[0].linears[LinearId::q].propagated = 3;
  errors[0].linears[LinearId::down].propagated = 1;
  errors[1].linears[LinearId::o].propagated = 0.001;
  const auto found = suspects(errors, {0.4, 0.2}, 2);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].linear, LinearId::q);
  EXPECT_NEAR(found[0].kl, 0.3, 1e-12);
  EXPECT_EQ(found[1].linear, LinearId::o);
  EXPECT_NEAR(found[1].kl, 0.2, 1e-12);
}

/// The sample model in 4 bits, on disk, and beside it the model that it was made from.
class Damage : public testing::Test {
 protected:
  void SetUp() override {
    recipe = named_recipe("w4a4kv4-static");
    recipe.calibration.samples = recipe.search.samples = 2;
    recipe.calibration.length = recipe.search.length = 48;
    recipe.search.weight_step = 0.225;
    Preparation preparation(sample, std::string(PQ_SOURCE_DIR) + "/examples/prose.txt", floats);
    recipe = preparation.settled(recipe);
    const fs::path out = fs::path(testing::TempDir()) / "pq_damage";
    fs::remove_all(out);
    data = preparation.calibration(recipe);
    io::QuantizedCheckpointWriter writer(checkpoint, out, io::checkpoint_header(checkpoint.spec(), recipe, prefix),
                                         false);
    CheckpointSink sink(writer);
    summary = quantize_model(checkpoint, recipe, prefix, data, floats, sink);
    writer.commit();
    quantized = std::make_unique<io::QuantizedCheckpoint>(io::QuantizedCheckpoint::open(out.string()));
    tokens = to_token_tensor(data.detection, at::kCPU);
    whole = std::make_unique<TransformedModel>(checkpoint, recipe, floats);
  }

  /// Logits of the model whose blocks `rounded(i)` says are quantized, put together by hand.
  at::Tensor logits(const std::function<bool(std::int64_t)>& rounded) const {
    nn::Transformer::Parts parts;
    parts.spec = quantized->spec();
    parts.embedding = at::zeros({1});
    auto taps = std::make_shared<std::vector<nn::Tap>>();
    for (std::int64_t i = 0; i < parts.spec.block_count; ++i) {
      const QuantizedBlock block = quantized->block(i);
      SiteTransforms online;
      parts.blocks.push_back(whole->block(i, online));
      parts.blocks.back().key_frame = restore_unquantized(block, parts.spec, floats).key_frame;  // as the prefix has it
      if (rounded(i)) parts.blocks.back() = restore_block(block, parts.spec, recipe, i, floats);
      taps->push_back(rounded(i) ? restore_tap(block, recipe, i, floats) : nn::Tap{});
      parts.transforms.push_back(block.transforms);
      parts.prefix.push_back(restore_prefix(quantized->prefix().blocks[static_cast<std::size_t>(i)], parts.spec,
                                            quantized->prefix().length, floats));
    }
    parts.taps = [taps](std::int64_t block) { return (*taps)[static_cast<std::size_t>(block)]; };
    parts.embedding = whole->embed(at::arange(parts.spec.vocab_size, at::kLong).view({1, -1}))[0];
    parts.final_norm = whole->final_norm();
    parts.lm_head = whole->lm_head(at::kFloat);
    nn::Transformer model(std::move(parts));
    return model.head(model.hidden(tokens));
  }

  const at::NoGradGuard no_grad;
  const std::vector<std::int32_t> prefix{8142, 13, 1};
  Recipe recipe;
  CalibrationData data;
  io::HfCheckpoint checkpoint = io::HfCheckpoint::open(sample);
  QuantizeSummary summary;
  std::unique_ptr<io::QuantizedCheckpoint> quantized;
  std::unique_ptr<TransformedModel> whole;
  at::Tensor tokens;
};

TEST_F(Damage, IsThatOfModelsPutTogetherByHand) {
  const CheckpointDamage damage = checkpoint_damage(*whole, *quantized, tokens, 5);
  const at::Tensor reference = logits([](std::int64_t) { return false; });
  const std::int64_t blocks = quantized->spec().block_count;
  ASSERT_EQ(damage.blocks.size(), static_cast<std::size_t>(blocks));
  for (const std::int64_t b : {std::int64_t{0}, blocks - 1}) {
    const double direct = direct_kl(reference, logits([b](std::int64_t i) { return i == b; }));
    EXPECT_NEAR(damage.blocks[static_cast<std::size_t>(b)], direct, 1e-5 + 1e-3 * direct) << b;
    EXPECT_GT(direct, 1e-3);
  }
  const double all = direct_kl(reference, logits([](std::int64_t) { return true; }));
  EXPECT_NEAR(damage.all, all, 1e-5 + 1e-3 * all);
  // A block too many is another model.
  EXPECT_GT(std::abs(direct_kl(reference, logits([](std::int64_t i) { return i <= 1; })) - damage.blocks[0]), 1e-3);

  ASSERT_EQ(damage.linears.size(), 5U);
  for (std::size_t i = 0; i < damage.linears.size(); ++i) {
    const LinearDamage& one = damage.linears[i];
    EXPECT_GT(one.kl, 0);
    EXPECT_LT(one.kl, damage.all);
    if (i == 0) continue;
    EXPECT_GE(damage.linears[i - 1].kl, one.kl);
  }
  EXPECT_GT(damage.quantized_perplexity, damage.perplexity);
  ASSERT_EQ(damage.kinds.size(), 9U);
  for (const KindDamage& one : damage.kinds) EXPECT_GT(one.kl, 0) << one.kind.name();
}

/// What a run of quantize measures while the blocks go by, on the same tokens.
TEST_F(Damage, OfAKindIsTheSameInARunOfQuantize) {
  const CheckpointDamage damage = checkpoint_damage(*whole, *quantized, tokens, 0);
  const ModelSpec& spec = quantized->spec();
  nn::ModelContext contexts(spec, {}, quantized->prefix().length + tokens.size(1), floats);
  KindStreams streams(quantized_kinds(recipe, spec.block_count), whole->embed(tokens));
  std::vector<at::Tensor> hidden{whole->embed(tokens), whole->embed(tokens)};  // whole, and weights of down_proj
  for (std::int64_t i = 0; i < spec.block_count; ++i) {
    const QuantizedBlock block = quantized->block(i);
    contexts.set_transforms(i, block.transforms);
    SiteTransforms online;
    nn::Block original = whole->block(i, online);
    original.key_frame = restore_unquantized(block, spec, floats).key_frame;
    const nn::KeyValue pinned = restore_prefix(quantized->prefix().blocks[static_cast<std::size_t>(i)], spec,
                                               quantized->prefix().length, floats);
    const nn::BlockContext context = contexts.block(i, &pinned);
    const nn::Block rounded = restore_block(block, spec, recipe, i, floats);
    streams.advance(original, rounded, restore_tap(block, recipe, i, floats), context);
    nn::Block by_hand = original;
    by_hand[LinearId::down] = rounded[LinearId::down];
    hidden[0] = nn::forward(original, context, hidden[0]);
    hidden[1] = nn::forward(by_hand, context, hidden[1]);
  }
  const std::vector<KindDamage> found = streams.damage(*whole);
  ASSERT_EQ(found.size(), damage.kinds.size());
  for (std::size_t i = 0; i < found.size(); ++i) {
    EXPECT_EQ(found[i].kind, damage.kinds[i].kind);
    EXPECT_NEAR(found[i].kl, damage.kinds[i].kl, 1e-6 + 1e-4 * found[i].kl) << found[i].kind.name();
    if (found[i].kind.name() != "weights of down_proj") continue;
    const Head head{spec, whole->final_norm(), whole->lm_head(at::kFloat)};
    const auto logits = [&](const at::Tensor& x) {
      return nn::project_logits(spec, head.lm_head, nn::rms_norm(x, head.final_norm, spec.rms_norm_eps));
    };
    EXPECT_NEAR(found[i].kl, direct_kl(logits(hidden[0]), logits(hidden[1])), 1e-6 + 1e-3 * found[i].kl);
  }
}

TEST_F(Damage, ARunOfQuantizeMeasuresEveryBlock) {
  ASSERT_EQ(summary.errors.size(), static_cast<std::size_t>(quantized->spec().block_count));
  for (const LayerErrors& errors : summary.errors) {
    EXPECT_GT(errors.block, 0);
    for (const LinearError& error : errors.linears) {
      EXPECT_GT(error.weights, 0);
      EXPECT_GT(error.inputs, 0);
      EXPECT_GT(error.propagated, 0);
      EXPECT_LT(error.output, 1);
    }
  }
  ASSERT_EQ(summary.kinds.size(), 9U);
  for (const KindDamage& one : summary.kinds) EXPECT_GT(one.kl, 0) << one.kind.name();
  const Json json = quantize_summary_to_json(summary);
  EXPECT_EQ(json["kind_kl"].size(), 9U);
  EXPECT_EQ(json["layer_errors"].size(), summary.errors.size());
  EXPECT_TRUE(json["layer_errors"][0]["linears"].contains("down_proj"));
  EXPECT_GE(json["steps"].size(), 4U);
}

TEST_F(Damage, AResumedRunKnowsTheErrorsOfFinishedBlocks) {
  const fs::path directory = fs::path(testing::TempDir()) / "pq_damage_journal";
  fs::remove_all(directory);
  const SiteTransforms online = TransformList(make_transforms(checkpoint.spec(), recipe, at::kCPU)).online();
  const auto run = [&] {
    io::ResumeJournal journal(directory, Json{{"run", 1}}, checkpoint.spec(), recipe, online);
    DiscardingSink sink;
    const Json json =
        quantize_summary_to_json(quantize_model(checkpoint, recipe, prefix, data, floats, sink, {&journal, {}}));
    return Json{json["layer_errors"], json["kind_kl"]};
  };
  const Json first = run();
  EXPECT_EQ(first[0], quantize_summary_to_json(summary)["layer_errors"]);
  EXPECT_EQ(first[1], quantize_summary_to_json(summary)["kind_kl"]);
  fs::remove(directory / "block-00005.safetensors");  // as if it had been killed before the last block
  EXPECT_EQ(run(), first);
}

}  // namespace
}  // namespace pq::quant
