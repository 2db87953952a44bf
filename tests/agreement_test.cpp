// The two halves against each other, on the same checkpoint: the integer runtime and the fake-quantized LibTorch model.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "base/files.h"
#include "eval/perplexity.h"
#include "io/quantized_checkpoint.h"
#include "io/safetensors.h"
#include "numerics/transform_for_test.h"
#include "pipeline/calibration.h"
#include "pipeline/pipeline.h"
#include "pipeline/prefix.h"
#include "runtime/model.h"
#include "runtime/runtime_model.h"
#include "runtime/session.h"

namespace pq {
namespace {

namespace fs = std::filesystem;

const std::string sample = std::string(PQ_SOURCE_DIR) + "/examples/sample-model";
const std::string prose = std::string(PQ_SOURCE_DIR) + "/examples/prose.txt";

class Agreement : public testing::Test {
 protected:
  /// A checkpoint of the sample model with min-max scales: how good they are does not matter here.
  std::string quantized(const Recipe& recipe, const std::string& name) const {
    const fs::path out = fs::path(testing::TempDir()) / ("agreement_" + name);
    fs::remove_all(out);
    const std::vector<std::int32_t> prefix{8142, 13, 1};
    const quant::CalibrationData data = quant::calibration_from_file(prose, tokenizer, checkpoint.spec(), recipe);
    io::QuantizedCheckpointWriter writer(
        checkpoint, out,
        io::checkpoint_header(checkpoint.spec(), recipe, prefix, quant::prefix_text(prefix, tokenizer)), false);
    quant::CheckpointSink sink(writer);
    quant::quantize_model(checkpoint, recipe, prefix, data, floats, sink);
    writer.commit();
    return out.string();
  }
  static Recipe quick(std::string_view name, const std::vector<std::string>& settings = {}) {
    Recipe recipe = named_recipe(name);
    recipe.calibration.samples = 4;
    recipe.calibration.length = 64;
    recipe.search = {.weight = false, .activation = false, .kv = false, .gptq = false, .samples = 1, .length = 64};
    for (const std::string& setting : settings) apply_setting(recipe, setting);
    validate_recipe(recipe);
    return recipe;
  }
  /// The reference in float64 differs from the reference in float32 by roundings alone, and so does the runtime. A code
  /// that falls on the other side of a rounding border moves everything after it, so distances are compared with that
  /// one; and a mean over n tokens whose distance is KL has a standard deviation of sqrt(2 KL / n).
  void expect_agreement(const Recipe& recipe, const std::string& name) const {
    const std::string out = quantized(recipe, name);
    const auto opened = io::QuantizedCheckpoint::open(out);
    const auto reference = quant::load_quantized(opened, floats);
    const auto precise = quant::load_quantized(opened, floats.dtype(at::kDouble));
    runtime::RuntimeModel exact(runtime::Model::load(out, {.float_attention = true}));
    runtime::RuntimeModel packed(runtime::Model::load(out, {}));
    LanguageModel* const models[] = {reference.get(), precise.get(), &exact, &packed};
    const auto stream = eval::tokenize_text(tokenizer, read_text_file(prose));
    const auto results = eval::compare_models(*reference, models, stream, {.length = 256, .max_chunks = 8});
    const double control = std::max(results[1].kl_divergence, 1e-6);
    for (const std::size_t i : {2U, 3U}) {
      const double change = results[i].perplexity / results[0].perplexity - 1;
      const double kl = std::max(results[i].kl_divergence, 0.0);
      const double spread = std::sqrt(2 * kl / static_cast<double>(results[i].tokens));
      std::printf("%-20s %-17s perplexity %8.4f, change %+.5f%%, KL %.2e (float64 reference: %.2e), top-1 %.4f\n",
                  name.c_str(), i == 2 ? "float32 attention" : "packed attention", results[i].perplexity, 100 * change,
                  kl, results[1].kl_divergence, results[i].top1_agreement);
      EXPECT_LT(std::abs(change), 0.0005 + 5 * spread) << name;
      // The 16-bit codes of the packed attention are a larger first step than a rounding of float32.
      EXPECT_LT(kl, (i == 2 ? 4 : 40) * control) << name;
    }
    fs::remove_all(out);
  }

  const at::NoGradGuard no_grad;
  const at::TensorOptions floats = at::TensorOptions().dtype(at::kFloat);
  const io::HfCheckpoint checkpoint = io::HfCheckpoint::open(sample);
  const Tokenizer tokenizer = Tokenizer::load(sample);
};

TEST_F(Agreement, EveryBuiltInRecipe) {
  for (const std::string& name : recipe_names()) {
    const Recipe recipe = quick(name);
    // Those of other groups and bits take the same path.
    if (recipe.weight.two_level && recipe.weight.group != 32) continue;
    if (recipe.weight.scale_type != ScaleType::float32 && name != "w4a16g32-asym-gguf") continue;
    expect_agreement(recipe, name);
  }
}

TEST_F(Agreement, RecipesOffTheBeatenTrack) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> rows{
      {"w4a4kv4-dynamic", {"weight.granularity=group", "weight.group=64", "weight.symmetric=false"}},
      {"w4a4kv4-dynamic", {"activation.granularity=group", "activation.group=128", "activation.symmetric=false"}},
      {"w4a8kv4-static", {"weight.bits=3", "activation.symmetric=false", "kv.symmetric=false", "kv.bits=8"}},
      {"w8a8kv8-dynamic", {"weight.bits=5", "activation.bits=6", "kv.granularity=token", "kv.bits=3"}},
      {"w4a4kv4-dynamic", {"weight.granularity=group", "weight.group=48", "kv.group=16"}},
      {"w4a16g128", {"weight.symmetric=false", "rotate.r3=false"}},
      // Blocks and linear layers with formats of their own.
      {"w4a4kv4-static",
       {"linear.down_proj.weight.bits=8", "linear.down_proj.activation.bits=8", "blocks.0-1.activation.bits=8",
        "blocks.2.kv.bits=8", "blocks.3.linear.q_proj.weight.bits=16"}},
      {"w4a8kv4-dynamic",
       {"blocks.1.weight.bits=16", "blocks.2.kv.bits=16", "linear.gate_proj.weight.bits=3",
        "blocks.3.activation.bits=16", "blocks.0.weight.granularity=group", "blocks.0.weight.group=64"}},
      {"w4g32a8kv4-static", {"linear.up_proj.weight.group=64", "linear.k_proj.weight.two_level=false"}},
  };
  int index = 0;
  for (const auto& [name, settings] : rows) {
    ++index;
    expect_agreement(quick(name, settings), name + "_" + std::to_string(index));
  }
}

// A broken quantizer would not pass: one scale of one layer off by 1% moves the perplexity beyond the bound above, or
// the distance does.
TEST_F(Agreement, ADamagedScaleIsSeen) {
  const Recipe recipe = quick("w4a8kv4-static");
  const std::string out = quantized(recipe, "damaged");
  const auto reference = quant::load_quantized(io::QuantizedCheckpoint::open(out), floats);
  std::string text = read_whole_file(fs::path(out) / "model.safetensors");
  const auto opened = io::QuantizedCheckpoint::open(out);
  const float scale = opened.block(1).sites[Site::down_input].scale[0];
  const std::string_view bytes(reinterpret_cast<const char*>(&scale), sizeof scale);
  const std::size_t at = text.find(bytes);
  ASSERT_NE(at, std::string::npos);
  const float damaged = scale * 1.1F;
  std::copy_n(reinterpret_cast<const char*>(&damaged), sizeof damaged, text.begin() + static_cast<std::ptrdiff_t>(at));
  write_file_atomically(fs::path(out) / "model.safetensors", text);
  runtime::RuntimeModel fast(runtime::Model::load(out, {}));
  LanguageModel* const models[] = {reference.get(), &fast};
  const auto stream = eval::tokenize_text(tokenizer, read_text_file(prose));
  const auto results = eval::compare_models(*reference, models, stream, {.length = 256, .max_chunks = 4});
  EXPECT_GT(results[1].kl_divergence, 0.001);
  fs::remove_all(out);
}

TEST_F(Agreement, GreedyTextOfTheUnquantizedModelIsTheSame) {
  const auto reference = nn::Transformer::load(checkpoint, floats);
  runtime::Session session(runtime::Model::load(sample, {.kv_bits = 32}), 512);
  std::vector<std::int32_t> tokens = tokenizer.encode("The history of the house begins", true);
  session.append(tokens);
  std::vector<float> logits(static_cast<std::size_t>(checkpoint.spec().vocab_size));
  for (int i = 0; i < 200; ++i) {
    reference->run(tokens, 1);
    reference->logits(static_cast<std::int64_t>(tokens.size()) - 1, 1, logits);
    const auto best = std::max_element(logits.begin(), logits.end()) - logits.begin();
    const auto ours = session.logits();
    const auto our_best = std::max_element(ours.begin(), ours.end()) - ours.begin();
    ASSERT_EQ(our_best, best) << "token " << i;
    tokens.push_back(static_cast<std::int32_t>(best));
    session.append({&tokens.back(), 1});
  }
}

/// Logits [tokens, vocab] of one sequence.
std::vector<float> logits_of(LanguageModel& model, const std::vector<std::int32_t>& tokens) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  std::vector<float> logits(tokens.size() * static_cast<std::size_t>(model.spec().vocab_size));
  model.run(tokens, 1);
  model.logits(0, count, logits);
  return logits;
}

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = a.size() == b.size() ? 0 : HUGE_VAL;
  for (std::size_t i = 0; i < a.size(); ++i) largest = std::max(largest, std::fabs(static_cast<double>(a[i] - b[i])));
  return largest;
}

// What the program that wrote a checkpoint of the first version computed with it, both halves of this one still do; and
// the second version of the same checkpoint is the same model.
TEST(FormatVersions, GiveTheLogitsThatTheyGave) {
  const fs::path goldens = fs::path(PQ_SOURCE_DIR) / "tests" / "goldens" / "io";
  const io::SafetensorsFile file(goldens / "checkpoint_v1" / "logits.safetensors");
  const auto tokens = io::copy_values<std::int32_t>(file.tensor("tokens"));
  for (const char* version : {"checkpoint_v1", "checkpoint_v2"}) {
    const std::string model = (goldens / version).string();
    runtime::RuntimeModel fast(runtime::Model::load(model, {}));
    const auto reference = quant::load_quantized(io::QuantizedCheckpoint::open(model), at::kFloat);
    EXPECT_LT(largest_difference(logits_of(fast, tokens), io::copy_values<float>(file.tensor("runtime"))), 2e-5);
    EXPECT_LT(largest_difference(logits_of(*reference, tokens), io::copy_values<float>(file.tensor("reference"))),
              2e-5);
  }
}

// The golden's blocks with every kind of step wherever a transform can be: another function, but the same in both
// halves.
TEST(SiteTransforms, AreTheSameInBothHalves) {
  const fs::path goldens = fs::path(PQ_SOURCE_DIR) / "tests" / "goldens";
  const auto source = io::HfCheckpoint::open((goldens / "nn" / "llama-gqa").string());
  const auto plain = io::QuantizedCheckpoint::open((goldens / "io" / "checkpoint_v1").string());
  const ModelSpec& spec = plain.spec();
  const auto transforms = [&](std::int64_t block) {
    SiteTransforms all;
    for (const Site site : quantized_sites) {
      const auto size = transform_size(spec, site);
      if (size) all[site] = every_step(*size, 30 + static_cast<std::uint64_t>(block));
    }
    return all;
  };
  const fs::path out = fs::path(testing::TempDir()) / "agreement_site_transforms";
  fs::remove_all(out);
  Recipe recipe = plain.recipe();  // without quantizers of activations, whose codes could fall on either side
  apply_setting(recipe, "activation.bits=16");
  apply_setting(recipe, "kv.bits=16");
  io::CheckpointHeader header = io::checkpoint_header(spec, recipe, plain.prefix().token_ids);
  header.transforms = transforms(0);
  io::QuantizedCheckpointWriter writer(source, out, header, false);
  quant::CheckpointSink sink(writer);
  const auto halves = [](const io::TensorView& view) { return io::copy_values<std::uint16_t>(view); };
  sink.embedding_rows(halves(plain.embedding()));
  for (std::int64_t i = 0; i < spec.block_count; ++i) {
    QuantizedBlock block = plain.block(i);
    block.transforms = transforms(i);
    sink.block(i, block);
  }
  sink.final_norm(plain.final_norm());
  sink.lm_head_rows(halves(plain.lm_head()));
  sink.prefix(plain.prefix());
  writer.commit();

  const std::vector<std::int32_t> tokens{5, 34, 63, 92, 24, 53, 82, 14};
  const auto opened = io::QuantizedCheckpoint::open(out.string());
  runtime::RuntimeModel fast(runtime::Model::load(out.string(), {.kv_bits = 32, .float_attention = true}));
  const auto logits = logits_of(*quant::load_quantized(opened, at::kDouble), tokens);
  EXPECT_LT(largest_difference(logits_of(*quant::load_quantized(opened, at::kFloat), tokens), logits), 1e-3);
  EXPECT_LT(largest_difference(logits_of(fast, tokens), logits), 2e-2);  // 16-bit codes of activations
  runtime::RuntimeModel without(runtime::Model::load((goldens / "io" / "checkpoint_v1").string(), {}));
  EXPECT_GT(largest_difference(logits_of(without, tokens), logits), 0.1);
  fs::remove_all(out);
}

}  // namespace
}  // namespace pq
