// Every family that is read, through the whole program: a small random checkpoint is quantized, and the runtime on it
// held against the reference arithmetic and the LibTorch half. Its logits against transformers are nn's tests.
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"
#include "eval/perplexity.h"
#include "io/quantized_checkpoint.h"
#include "pipeline/kv_symmetry.h"
#include "pipeline/pipeline.h"
#include "quant/recipe_transforms.h"
#include "runtime/model.h"
#include "runtime/model_source.h"
#include "runtime/runtime_model.h"
#include "verify/verify.h"

namespace pq {
namespace {

namespace fs = std::filesystem;

const fs::path goldens = fs::path(PQ_SOURCE_DIR) / "tests" / "goldens";

std::vector<std::int32_t> random_tokens(std::int64_t count, std::int64_t vocab, std::uint64_t seed) {
  Random random(seed, "tokens");
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(vocab))));
  }
  return tokens;
}

quant::CalibrationSet random_sequences(std::int64_t samples, std::int64_t length, std::int64_t vocab) {
  quant::CalibrationSet set;
  for (std::int64_t i = 0; i < samples; ++i) {
    set.sequences.push_back(random_tokens(length, vocab, static_cast<std::uint64_t>(i)));
  }
  return set;
}

class FamilyPath : public ::testing::TestWithParam<const char*> {
 protected:
  fs::path quantized(const Recipe& recipe) const {
    const fs::path out = fs::path(testing::TempDir()) / (std::string("family_") + GetParam() + recipe.name);
    fs::remove_all(out);
    const ModelSpec& spec = checkpoint.spec();
    const quant::CalibrationSet set = random_sequences(4, 24, spec.vocab_size);
    const quant::CalibrationData data{set, set, {}, {}, "random", "random"};
    const std::vector<std::int32_t> prefix{7, 3};
    io::CheckpointHeader header = io::checkpoint_header(spec, recipe, prefix);
    header.transforms = quant::TransformList(quant::make_transforms(spec, recipe, at::kCPU)).online();
    io::QuantizedCheckpointWriter writer(checkpoint, out, std::move(header), false);
    quant::CheckpointSink sink(writer);
    quant::quantize_model(checkpoint, recipe, prefix, data, floats, sink);
    writer.commit();
    return out;
  }
  static Recipe quick(std::string_view name) {
    Recipe recipe = named_recipe(name);
    recipe.calibration.samples = 4;
    recipe.calibration.length = 24;
    recipe.search = {.weight = true, .activation = true, .kv = true, .gptq = false, .samples = 2, .length = 24};
    return recipe;
  }

  const at::NoGradGuard no_grad;
  const at::TensorOptions floats = at::TensorOptions().dtype(at::kFloat);
  const io::HfCheckpoint checkpoint = io::HfCheckpoint::open((goldens / "nn" / GetParam()).string());
};

TEST_P(FamilyPath, QuantizedCheckpointsPassVerify) {
  const std::vector<std::int32_t> tokens = random_tokens(30, checkpoint.spec().vocab_size, 99);
  for (const char* name : {"w4a4kv4-static", "w4a8kv4-dynamic", "w4a16g128"}) {
    SCOPED_TRACE(name);
    const std::string path = quantized(quick(name)).string();
    for (const int lm_head_bits : {16, 8}) {
      const auto model = runtime::Model::load(path, {.lm_head_bits = lm_head_bits});
      const runtime::VerifyReport report = runtime::verify(*model, runtime::open_model(path), tokens);
      for (const auto& row : report.rows) EXPECT_TRUE(row.passed()) << row.tensor << " " << row.share;
      EXPECT_TRUE(report.passed());
    }
    fs::remove_all(path);
  }
}

TEST_P(FamilyPath, RuntimeAgreesWithTheLibTorchHalf) {
  const std::string unquantized = (goldens / "nn" / GetParam()).string();
  const auto reference = nn::Transformer::load(checkpoint, floats);
  runtime::RuntimeModel plain(runtime::Model::load(unquantized, {.kv_bits = 32, .float_attention = true}));
  const auto stream = random_tokens(480, checkpoint.spec().vocab_size, 5);
  LanguageModel* const unquantized_models[] = {reference.get(), &plain};
  const eval::PerplexityOptions chunks{.length = 40};
  EXPECT_LT(eval::compare_models(*reference, unquantized_models, stream, chunks)[1].kl_divergence, 1e-6);

  reference->set_prefix(reference->prefix_key_values({7, 3}));
  const std::string path = quantized(quick("w8a8kv8-dynamic")).string();
  const auto opened = io::QuantizedCheckpoint::open(path);
  const auto simulated = quant::load_quantized(opened, floats);
  runtime::RuntimeModel integer(runtime::Model::load(path, {}));
  LanguageModel* const models[] = {reference.get(), simulated.get(), &integer};
  const auto results = eval::compare_models(*simulated, models, stream, chunks);
  EXPECT_LT(results[2].kl_divergence, 1e-3);
  EXPECT_LT(results[0].kl_divergence, 0.05);  // 8 bits lose little, whatever the family
  fs::remove_all(path);
}

TEST_P(FamilyPath, GgufOfTheSameWeightsGivesTheSameLogits) {
  const fs::path file = goldens / "gguf" / (std::string(GetParam()) + ".gguf");
  if (!fs::exists(file)) GTEST_SKIP() << "there is no GGUF golden of this checkpoint";
  // What GGUF has no key for: this SmolLM3 has other blocks without RoPE, this Gemma another scale of scores.
  const std::string name = GetParam();
  if (name == "smollm3" || name == "gemma3-window") GTEST_SKIP() << "its config.json says what GGUF cannot";
  runtime::RuntimeModel a(runtime::Model::load((goldens / "nn" / name).string(), {}));
  runtime::RuntimeModel b(runtime::Model::load(file.string(), {}));
  LanguageModel* const models[] = {&a, &b};
  const auto stream = random_tokens(200, checkpoint.spec().vocab_size, 6);
  const auto results = eval::compare_models(a, models, stream, {.length = 40});
  EXPECT_LT(results[1].kl_divergence, 1e-8);
  EXPECT_EQ(results[1].top1_agreement, 1);
}

/// The Qwen2 of the goldens with this much added to the K biases of channels that RoPE hardly turns: Qwen2.5's are
/// largest there.
fs::path with_key_biases(float bias) {
  const fs::path out = fs::path(testing::TempDir()) / "family_key_biases";
  fs::remove_all(out);
  fs::create_directories(out);
  const fs::path original = goldens / "nn" / "qwen2-window";
  fs::copy_file(original / "config.json", out / "config.json");
  const auto checkpoint = io::HfCheckpoint::open(original.string());
  std::vector<io::TensorDeclaration> declarations;
  for (const std::string& name : checkpoint.names()) {
    const io::TensorView view = checkpoint.stored(name);
    declarations.push_back({name, io::DType::f32, view.shape});
  }
  io::SafetensorsWriter writer(out / "model.safetensors", declarations);
  for (const io::TensorDeclaration& declaration : declarations) {
    const io::TensorView view = checkpoint.stored(declaration.name);
    std::vector<float> values(static_cast<std::size_t>(view.size()));
    io::to_float32(view, values);
    if (declaration.name.ends_with("k_proj.bias")) {
      const auto half = static_cast<std::size_t>(checkpoint.spec().head_dim / 2);
      for (std::size_t i = 0; i < values.size(); ++i) values[i] += i % half >= half / 2 ? bias : 0;
    }
    writer.append(declaration.name, std::as_bytes(std::span(values)));
  }
  writer.finish();
  return out;
}

TEST(KvSymmetry, CalibrationAsksForZeroPointsWhereKeyBiasesAreLarge) {
  for (const char* name : {"w4a4kv4-static", "w4a4kv4-dynamic"}) {
    SCOPED_TRACE(name);
    Recipe recipe = named_recipe(name);
    apply_setting(recipe, "kv.symmetric=auto");
    EXPECT_TRUE(recipe.kv_symmetry_by_calibration);
    recipe.rotate.r3 = false;  // a rotation would spread the bias over the head
    const auto symmetry = [&](float bias) {
      const auto checkpoint = io::HfCheckpoint::open(with_key_biases(bias).string());
      const auto set = random_sequences(4, 24, checkpoint.spec().vocab_size);
      return quant::measure_kv_symmetry(checkpoint, set, recipe, at::TensorOptions().dtype(at::kFloat));
    };
    EXPECT_TRUE(symmetry(0).symmetric_suffices()) << symmetry(0).worst_ratio;
    EXPECT_FALSE(symmetry(30).symmetric_suffices()) << symmetry(30).worst_ratio;
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, FamilyPath,
                         ::testing::Values("llama-gqa", "llama-rope-llama3", "mistral-window", "qwen2-tied",
                                           "qwen2-yarn", "qwen3", "ministral-window", "phi3-longrope-short",
                                           "phi3-window", "smollm3", "granite", "gemma3-window", "olmo2"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace pq
