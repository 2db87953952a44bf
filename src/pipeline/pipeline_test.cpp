#include "pipeline/pipeline.h"
#include "pipeline/self_calibration.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "base/files.h"
#include "model/block_formats.h"
#include "pipeline/prefix.h"
#include "pipeline/streams.h"
#include "pipeline/transformed_model.h"

namespace pq::quant {
namespace {

namespace fs = std::filesystem;

const std::string sample = std::string(PQ_SOURCE_DIR) + "/examples/sample-model";
const auto floats = at::TensorOptions().dtype(at::kFloat);

/// The sample model with calibration sequences from the prose in the repository, few enough for a quick test.
class Pipeline : public testing::Test {
 protected:
  Recipe quick(const std::string& name) const {
    Recipe recipe = named_recipe(name);
    recipe.calibration.samples = 4;
    recipe.calibration.length = 64;
    recipe.search.samples = 2;
    recipe.search.length = 64;
    recipe.search.weight_step = 0.125;
    return recipe;
  }
  CalibrationData data(const Recipe& recipe) const {
    return calibration_from_file(std::string(PQ_SOURCE_DIR) + "/examples/prose.txt", tokenizer, checkpoint.spec(),
                                 recipe);
  }
  std::string write(const Recipe& recipe, const std::vector<std::int32_t>& prefix, const std::string& name,
                    InMemoryModel* memory = nullptr) const {
    const fs::path out = fs::path(testing::TempDir()) / name;
    fs::remove_all(out);
    const CalibrationData calibration = data(recipe);
    io::QuantizedCheckpointWriter writer(
        checkpoint, out, io::checkpoint_header(checkpoint.spec(), recipe, prefix, prefix_text(prefix, tokenizer)),
        false);
    CheckpointSink sink(writer);
    quantize_model(checkpoint, recipe, prefix, calibration, floats, sink);
    writer.commit();
    if (memory != nullptr) quantize_model(checkpoint, recipe, prefix, calibration, floats, *memory);
    return out.string();
  }
  static std::vector<float> logits(nn::Transformer& model) {
    std::vector<std::int32_t> tokens;
    for (std::int32_t i = 0; i < 40; ++i) tokens.push_back(100 + 37 * i);
    model.run(tokens, 1);
    std::vector<float> out(40 * static_cast<std::size_t>(model.spec().vocab_size));
    model.logits(0, 40, out);
    return out;
  }
  const at::NoGradGuard no_grad;
  io::HfCheckpoint checkpoint = io::HfCheckpoint::open(sample);
  Tokenizer tokenizer = Tokenizer::load(sample);
};

TEST_F(Pipeline, EveryRecipeLoadsBackToTheSameLogitsBitForBit) {
  for (const auto& name : recipe_names()) {
    const Recipe recipe = quick(name);
    // Those of other groups and bits take the same path.
    if (recipe.weight.two_level && recipe.weight.group != 32) continue;
    if (recipe.weight.scale_type != ScaleType::float32 && name != "w4a16g32-asym-gguf") continue;
    InMemoryModel memory(checkpoint.spec(), recipe);
    const std::string out = write(recipe, {8142, 13, 1}, "pq_" + name, &memory);
    const auto loaded = load_quantized(io::QuantizedCheckpoint::open(out), floats);
    EXPECT_EQ(loaded->prefix_length(), 3);
    EXPECT_TRUE(logits(*loaded) == logits(*memory.transformer(floats))) << name;
  }
}

TEST_F(Pipeline, AsymmetricAndGroupedVariantsLoadBackToo) {
  Recipe recipe = quick("w4a8kv4-static");
  for (const char* setting : {"weight.symmetric=false", "weight.granularity=group", "weight.group=96", "weight.bits=3",
                              "activation.symmetric=false", "kv.symmetric=false"}) {
    apply_setting(recipe, setting);
  }
  InMemoryModel memory(checkpoint.spec(), recipe);
  const auto loaded = load_quantized(io::QuantizedCheckpoint::open(write(recipe, {}, "pq_odd", &memory)), floats);
  EXPECT_TRUE(logits(*loaded) == logits(*memory.transformer(floats)));
}

/// Formats of blocks and linear layers of their own.
const std::vector<const char*> mixed{
    "linear.down_proj.weight.bits=8", "blocks.0.linear.q_proj.weight.bits=16",
    "blocks.1-2.activation.bits=8",   "blocks.1.kv.bits=16",
    "blocks.2.weight.bits=16",        "blocks.3.linear.up_proj.weight.symmetric=false"};

TEST_F(Pipeline, MixedBlocksLoadBackWhetherSearchedExhaustivelyOrNotAtAll) {
  for (const std::vector<const char*>& search : std::vector<std::vector<const char*>>{
           {},
           {"search.exhaustive=true", "search.activation=false", "search.kv=false", "search.samples=1",
            "search.length=16"},
           {"search.weight=false", "search.activation=false", "search.kv=false", "search.gptq=false"}}) {
    Recipe recipe = quick("w4a4kv4-static");
    for (const char* setting : mixed) apply_setting(recipe, setting);
    for (const char* setting : search) apply_setting(recipe, setting);
    InMemoryModel memory(checkpoint.spec(), recipe);
    const auto opened = io::QuantizedCheckpoint::open(write(recipe, {13, 1}, "pq_mixed", &memory));
    EXPECT_TRUE(logits(*load_quantized(opened, floats)) == logits(*memory.transformer(floats)));
    EXPECT_EQ(opened.block(0).linears[LinearId::down].codes.size(),
              2 * opened.block(0).linears[LinearId::gate].codes.size());
    EXPECT_FALSE(opened.block(0).linears[LinearId::q].weight.empty());
    EXPECT_TRUE(opened.block(2).linears[LinearId::down].codes.empty());
    EXPECT_TRUE(opened.block(1).sites[Site::k_cache].scale.empty());
    EXPECT_FALSE(opened.block(3).linears[LinearId::up].zero_points.empty());
  }
}

TEST_F(Pipeline, MixedBlocksAreTunedInTheirFormats) {
  Recipe recipe = quick("w4a4kv4-static");
  for (const char* setting : mixed) apply_setting(recipe, setting);
  for (const char* setting : {"finetune.epochs=1", "finetune.e2e_epochs=1", "finetune.samples=4", "finetune.length=32",
                              "finetune.validation=2", "finetune.batch=2"}) {
    apply_setting(recipe, setting);
  }
  const auto tuned = io::QuantizedCheckpoint::open(write(recipe, {13, 1}, "pq_mixed_tuned"));
  recipe.finetune.epochs = recipe.finetune.e2e_epochs = 0;
  const auto plain = io::QuantizedCheckpoint::open(write(recipe, {13, 1}, "pq_mixed_plain"));
  EXPECT_NE(tuned.block(0).linears[LinearId::down].scales, plain.block(0).linears[LinearId::down].scales);
  EXPECT_NE(tuned.block(2).linears[LinearId::down].weight, plain.block(2).linears[LinearId::down].weight);
  EXPECT_TRUE(logits(*load_quantized(tuned, floats)) != logits(*load_quantized(plain, floats)));
}

// More bits for what is rounded worst bring the model nearer to the one without quantizers.
TEST_F(Pipeline, MoreBitsForSomeBlocksAreNearerToTheModel) {
  const auto logits_of = [&](const std::vector<const char*>& settings) {
    Recipe recipe = quick("w4a4kv4-static");
    for (const char* setting : settings) apply_setting(recipe, setting);
    InMemoryModel memory(checkpoint.spec(), recipe);
    quantize_model(checkpoint, recipe, {8142, 13, 1}, data(recipe), floats, memory);
    return logits(*memory.transformer(floats));
  };
  const std::vector<float> wanted = logits_of({"weight.bits=16", "activation.bits=16", "kv.bits=16"});
  const auto distance = [&](const std::vector<const char*>& settings) {
    const std::vector<float> found = logits_of(settings);
    double sum = 0;
    for (std::size_t i = 0; i < found.size(); ++i) sum += (found[i] - wanted[i]) * (found[i] - wanted[i]);
    return sum;
  };
  const double uniform = distance({});
  EXPECT_LT(distance({"blocks.0-1.weight.bits=8", "blocks.0-1.activation.bits=8"}), 0.9 * uniform);
}

TEST_F(Pipeline, FormatsOfAllBlocksAreTheWholeModels) {
  const auto bytes = [&](const std::vector<const char*>& settings, const std::string& name) {
    Recipe recipe = quick("w4a4kv4-static");
    for (const char* setting : settings) apply_setting(recipe, setting);
    return read_whole_file(fs::path(write(recipe, {13, 1}, name)) / "model.safetensors");
  };
  const std::string whole = bytes({"weight.bits=3", "activation.bits=8", "kv.symmetric=false"}, "pq_whole");
  const std::string scoped =
      bytes({"blocks.0-3.weight.bits=3", "blocks.4-5.weight.bits=3", "linear.q_proj.activation.bits=8",
             "linear.k_proj.activation.bits=8", "linear.v_proj.activation.bits=8", "linear.o_proj.activation.bits=8",
             "linear.gate_proj.activation.bits=8", "linear.up_proj.activation.bits=8",
             "linear.down_proj.activation.bits=8", "blocks.0-5.kv.symmetric=false"},
            "pq_scoped");
  EXPECT_TRUE(whole == scoped);
  EXPECT_FALSE(whole == bytes({"blocks.0-4.weight.bits=3", "activation.bits=8", "kv.symmetric=false"}, "pq_less"));
}

TEST_F(Pipeline, TheSameSeedGivesTheSameBytes) {
  const auto bytes = [&](std::uint64_t seed, const std::string& name) {
    Recipe recipe = quick("w4a4kv4-static");
    recipe.seed = seed;
    return read_whole_file(fs::path(write(recipe, {13, 1}, name)) / "model.safetensors");
  };
  const std::string first = bytes(5, "pq_seed_a");
  EXPECT_TRUE(first == bytes(5, "pq_seed_b"));
  EXPECT_FALSE(first == bytes(6, "pq_seed_c"));
}

TEST_F(Pipeline, TakesTheMeanOfTheCalibrationOutOfEveryKey) {
  Recipe recipe = quick("w4a8kv4-static");
  recipe.search.samples = 1;
  recipe.kv_balance_keys = false;
  ASSERT_TRUE(block_formats(recipe, 0).center_keys);
  const auto quantized = [&](bool center) {
    recipe.kv_center_keys = center;
    const std::string out = write(recipe, {13, 1}, center ? "pq_centered" : "pq_not_centered");
    return io::QuantizedCheckpoint::open(out);
  };
  const io::QuantizedCheckpoint with = quantized(true), without = quantized(false);
  const ModelSpec& spec = checkpoint.spec();
  const std::vector<float>& mean = with.block(0).key_mean;
  ASSERT_EQ(mean.size(), static_cast<std::size_t>(spec.kv_size()));
  EXPECT_TRUE(without.block(0).key_mean.empty());

  // The first block's stream is the embedding, so that the mean follows from the definition.
  recipe.kv_center_keys = true;
  const TransformedModel model(checkpoint, recipe, floats);
  nn::ModelContext contexts(spec, online_rotations(spec, recipe.rotate), 128, floats);
  SiteTransforms online;
  const nn::Block block = model.block(0, online);
  contexts.set_transforms(0, online);
  const at::Tensor stream = model.embed(to_token_tensor(behind_prefix(data(recipe), {13, 1}).search, floats.device()));
  const nn::BlockContext context = contexts.block(0);
  const at::Tensor keys = nn::project_qkv(block, context, nn::qkv_input(block, context, stream, {}), 2, {}).k;
  const at::Tensor expected = keys.mean(at::IntArrayRef{0, 1}).flatten();
  EXPECT_TRUE(at::allclose(from_floats(mean, {spec.kv_size()}, floats), expected, 1e-4, 1e-5));
  EXPECT_GT(expected.abs().max().item<float>(), 0.01F);

  const nn::KeyValue centered = restore_prefix(with.prefix().blocks[0], spec, 2, floats);
  const nn::KeyValue plain = restore_prefix(without.prefix().blocks[0], spec, 2, floats);
  EXPECT_TRUE(at::allclose(centered.key + expected.view({spec.kv_head_count, spec.head_dim}), plain.key, 1e-2, 1e-2));
}

TEST_F(Pipeline, PutsKeysInABasisThatTheScoresDoNotSee) {
  Recipe recipe = quick("w4a8kv4-static");
  const ModelSpec& spec = checkpoint.spec();
  const auto quantized = [&](bool balance) {
    recipe.kv_balance_keys = balance;
    return io::QuantizedCheckpoint::open(write(recipe, {13, 1}, balance ? "pq_balanced" : "pq_not_balanced"));
  };
  const io::QuantizedCheckpoint with = quantized(true), without = quantized(false);
  const QuantizedBlock block = with.block(0);
  ASSERT_EQ(block.key_basis.size(), static_cast<std::size_t>(spec.kv_size() * spec.head_dim));
  EXPECT_TRUE(without.block(0).key_basis.empty());
  // The first block's prefix is the same text's in another basis, and without another mean.
  const nn::KeyFrame frame = restore_key_frame(block.key_basis, block.key_mean, spec, floats);
  const at::Tensor balanced = restore_prefix(with.prefix().blocks[0], spec, 2, floats).key[0] + frame.mean;
  const nn::KeyFrame plain = restore_key_frame({}, without.block(0).key_mean, spec, floats);
  const at::Tensor keys = restore_prefix(without.prefix().blocks[0], spec, 2, floats).key[0] + plain.mean;
  const at::Tensor moved = at::bmm(keys.transpose(0, 1), frame.basis).transpose(0, 1);
  EXPECT_TRUE(at::allclose(balanced, moved, 1e-2, 2e-2));
  EXPECT_FALSE(at::allclose(balanced, keys, 0.1, 0.1));
}

TEST_F(Pipeline, SixteenBitsEverywhereIsTheModelItself) {
  Recipe recipe = quick("w4a4kv4-static");
  recipe.weight.bits = recipe.activation.bits = recipe.kv.bits = 16;
  InMemoryModel memory(checkpoint.spec(), recipe);
  quantize_model(checkpoint, recipe, {13, 1}, data(recipe), floats, memory);
  const auto plain = nn::Transformer::load(checkpoint, floats);
  plain->set_prefix(plain->prefix_key_values({13, 1}));
  const auto quantized = memory.transformer(floats);
  const auto a = logits(*plain);
  const auto b = logits(*quantized);
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
  EXPECT_LT(worst, 0.05);  // binary16 rounding of rotated weights and prefix
}

TEST_F(Pipeline, CalibratesOnTheModelItselfReproducibly) {
  Recipe recipe = quick("w4a4kv4-static");
  const CalibrationData a = calibration_from_model(checkpoint, tokenizer, recipe, floats);
  const CalibrationData b = calibration_from_model(checkpoint, tokenizer, recipe, floats);
  EXPECT_EQ(a.detection.sequences, b.detection.sequences);
  EXPECT_EQ(a.search.sequences, b.search.sequences);
  EXPECT_EQ(a.detection.samples(), 4);
  EXPECT_EQ(a.detection.sequences[0][0], 1);
  recipe.seed = 1;
  EXPECT_NE(calibration_from_model(checkpoint, tokenizer, recipe, floats).detection.sequences, a.detection.sequences);
}

TEST_F(Pipeline, FindsTheOutliersThatTheSampleModelWasTrainedToHave) {
  Recipe recipe = named_recipe("w4a4kv4-static");
  recipe.calibration.samples = 8;
  recipe.calibration.length = 256;
  const OutlierReport report = find_outliers(checkpoint, data(recipe).detection, recipe.prefix, floats);
  ASSERT_EQ(report.blocks.size(), 6U);
  EXPECT_GT(report.blocks[1].down_product.mean_upper, 1);
  EXPECT_GT(report.blocks[1].down_product.max_ratio, 500);
  for (const std::size_t other : {0U, 2U, 3U, 4U, 5U})
    EXPECT_EQ(report.blocks[other].down_product.mean_upper, 0) << other;
  EXPECT_EQ(report.position_counts.front(), 8);  // position 0 of every sequence
}

/// The whole calibration text that the sample model's documentation names; there when the larger data is beside the
/// repository.
TEST_F(Pipeline, FindsTheDocumentedPrefix) {
  const fs::path books = fs::path(PQ_SHARED_DIR) / "data/calibration/books.jsonl";
  if (!fs::exists(books)) GTEST_SKIP() << books << " is not there";
  for (std::uint64_t seed = 0; seed < 2; ++seed) {
    Recipe recipe = named_recipe("w4a4kv4-static");
    recipe.seed = seed;
    const CalibrationData calibration = calibration_from_file(books, tokenizer, checkpoint.spec(), recipe);
    const OutlierReport report = find_outliers(checkpoint, calibration.detection, recipe.prefix, floats);
    EXPECT_EQ(choose_prefix(recipe.prefix, &report, tokenizer, checkpoint.spec(), seed),
              (std::vector<std::int32_t>{8142, 13, 1}))
        << seed;
  }
}

TEST_F(Pipeline, ANanWeightIsNamedAndNothingIsWritten) {
  const fs::path broken = fs::path(testing::TempDir()) / "pq_nan_model";
  fs::remove_all(broken);
  fs::copy(sample, broken);
  {
    std::fstream file(broken / "model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(-2, std::ios::end);
    const char nan[2] = {'\xc0', '\x7f'};  // bfloat16, little-endian
    file.write(nan, 2);
  }
  const auto damaged = io::HfCheckpoint::open(broken.string());
  const Recipe recipe = quick("w4a4kv4-static");
  const fs::path out = fs::path(testing::TempDir()) / "pq_nan_out";
  fs::remove_all(out);
  std::string message;
  try {
    io::QuantizedCheckpointWriter writer(damaged, out, io::checkpoint_header(damaged.spec(), recipe, {1}, "<s>"),
                                         false);
    CheckpointSink sink(writer);
    quantize_model(damaged, recipe, {1}, data(recipe), floats, sink);
    writer.commit();
  } catch (const FormatError& error) {
    message = error.what();
  }
  EXPECT_NE(message.find("holds NaN or infinity"), std::string::npos) << message;
  EXPECT_NE(message.find("model.safetensors"), std::string::npos) << message;
  EXPECT_FALSE(fs::exists(out));
  EXPECT_FALSE(fs::exists(out.string() + ".partial"));
}

}  // namespace
}  // namespace pq::quant
