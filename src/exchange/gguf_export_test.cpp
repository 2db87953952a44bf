#include "exchange/gguf_export.h"

#include <gmock/gmock.h>

#include <cstring>
#include <filesystem>

#include "exchange/export_for_test.h"
#include "exchange/gguf_keys.h"
#include "io/gguf_checkpoint.h"
#include "io/gguf_metadata.h"
#include "io/model_source.h"

namespace pq::exchange {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::recipe_with;
using testing::small_model;
using testing::TemporaryDirectory;
using testing::write_bytes;
using testing::write_quantized;

class GgufExportTest : public ::testing::Test {
 protected:
  template <typename E>
  std::string refusal(const Json& config, const Recipe& recipe, const GgufOptions& options = {}) {
    const auto checkpoint = write_quantized(folder_.path(), config, recipe);
    std::string message = message_of<E>([&] { export_gguf(checkpoint, out_, options); });
    EXPECT_FALSE(fs::exists(out_));
    EXPECT_FALSE(fs::exists(out_.string() + ".partial"));
    return message;
  }

  TemporaryDirectory folder_;
  fs::path out_ = folder_.path() / "model.gguf";
};

Json of_family(const char* type, const char* architecture) {
  Json config = small_model();
  config["model_type"] = type;
  config["architectures"] = {architecture};
  return config;
}

std::vector<Json> exportable() {
  std::vector<Json> all{small_model(), of_family("qwen2", "Qwen2ForCausalLM"), of_family("qwen3", "Qwen3ForCausalLM"),
                        of_family("granite", "GraniteForCausalLM"), of_family("phi3", "Phi3ForCausalLM")};
  all[2]["head_dim"] = 32;  // not hidden / heads
  all[3]["residual_multiplier"] = 0.25;
  all[3]["logits_scaling"] = 4.0;
  Json mistral = of_family("mistral", "MistralForCausalLM");
  mistral["sliding_window"] = 16;
  mistral["head_dim"] = 16;
  all.push_back(mistral);
  Json smollm3 = of_family("smollm3", "SmolLM3ForCausalLM");
  smollm3["num_hidden_layers"] = 4;
  smollm3["no_rope_layers"] = {1, 1, 1, 0};
  all.push_back(smollm3);
  for (const Json& scaling : {Json{{"rope_type", "linear"}, {"factor", 4.0}},
                              Json{{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 16}},
                              Json{{"rope_type", "llama3"},
                                   {"factor", 8.0},
                                   {"low_freq_factor", 1.0},
                                   {"high_freq_factor", 4.0},
                                   {"original_max_position_embeddings", 32}}}) {
    Json scaled = small_model();
    scaled["rope_scaling"] = scaling;
    all.push_back(scaled);
  }
  return all;
}

// export_gguf reads the file back and compares weights, architecture and tokenizer itself.
TEST_F(GgufExportTest, EveryFamilySurvives) {
  for (const Json& config : exportable()) {
    SCOPED_TRACE(config.dump());
    const auto checkpoint = write_quantized(folder_.path(), config, recipe_with("w4a16g32-gguf"));
    const GgufExport made = export_gguf(checkpoint, out_, {.replace = true});
    EXPECT_EQ(made.weights, io::DType::q4_0);
    EXPECT_EQ(made.difference.largest, 0);
    EXPECT_EQ(made.bytes, fs::file_size(out_));
    EXPECT_EQ(made.left_out.size(), config["model_type"] == "mistral" ? 1U : 0U);
    EXPECT_NO_THROW(io::HfCheckpoint::open(out_.string()));
  }
}

/// Families with norms behind their sublayers, which keep R1 out of the weights.
std::vector<Json> exportable_without_r1() {
  Json gemma3 = of_family("gemma3_text", "Gemma3ForCausalLM");
  gemma3["hidden_activation"] = "gelu_pytorch_tanh";
  gemma3["num_hidden_layers"] = 3;
  gemma3["layer_types"] = {"sliding_attention", "full_attention", "sliding_attention"};
  gemma3["sliding_window"] = 16;
  gemma3["head_dim"] = 32;
  gemma3["query_pre_attn_scalar"] = 32;
  gemma3["rope_parameters"] = {
      {"full_attention", {{"rope_type", "linear"}, {"factor", 8.0}, {"rope_theta", 1000000.0}}},
      {"sliding_attention", {{"rope_type", "default"}, {"rope_theta", 10000.0}}}};
  Json olmo2 = of_family("olmo2", "Olmo2ForCausalLM");
  olmo2["rope_theta"] = 500000.0;
  return {gemma3, olmo2};
}

TEST_F(GgufExportTest, FamiliesWithNormsBehindSublayersSurviveWithoutR1) {
  for (const Json& config : exportable_without_r1()) {
    SCOPED_TRACE(config.dump());
    EXPECT_THAT(refusal<UnsupportedError>(config, recipe_with("w4a16g32-gguf")),
                AllOf(HasSubstr("rotate.r1"), HasSubstr("--set rotate.r1=none")));
    const auto checkpoint =
        write_quantized(folder_.path(), config, recipe_with("w4a16g32-asym-gguf", {"rotate.r1=none"}));
    const GgufExport made = export_gguf(checkpoint, out_, {});
    EXPECT_EQ(made.weights, io::DType::q4_1);
    EXPECT_EQ(made.difference.largest, 0);
    EXPECT_THAT(made.left_out, ::testing::IsEmpty());
    const io::HfCheckpoint read = io::HfCheckpoint::open(out_.string());
    EXPECT_FALSE(read.spec().norm_offset);  // GGUF's norms are what multiplies
    for (std::int64_t block = 0; block < checkpoint.spec().block_count; ++block) {
      for (const NormRow& norm : all_norms(checkpoint.spec())) {
        std::vector<float> values(static_cast<std::size_t>(norm.size));
        io::to_float32(read.norm(block, norm.id), values);
        EXPECT_EQ(values, checkpoint.block(block).norms[norm.id]);
      }
      EXPECT_EQ(read.spec().window_of_block(block), checkpoint.spec().window_of_block(block));
    }
    fs::remove(out_);
  }
}

TEST_F(GgufExportTest, EveryRecipeForIt) {
  for (const char* name : {"w4a16g32-gguf", "w4a16g32-asym-gguf", "w8a16g32-gguf", "w2a16g64-gguf"}) {
    const auto checkpoint = write_quantized(folder_.path(), small_model(), recipe_with(name));
    EXPECT_NO_THROW(export_gguf(checkpoint, out_, {.replace = true})) << name;
  }
  const io::GgufFile file(out_);
  const io::GgufMetadata metadata(file);
  EXPECT_EQ(metadata.integer(gguf_keys::format_version), 1);
  EXPECT_EQ(metadata.array(gguf_keys::prefix_token_ids)->count, 3U);
  EXPECT_EQ(recipe_from_json(parse_json(*metadata.text(gguf_keys::recipe), "x"), "x"), named_recipe("w2a16g64-gguf"));
  EXPECT_EQ(metadata.text("tokenizer.chat_template"), "{{ messages }}");
  EXPECT_EQ(metadata.integer("tokenizer.ggml.eos_token_id"), 259);
}

TEST_F(GgufExportTest, ADamagedFileIsSeen) {
  const auto checkpoint = write_quantized(folder_.path(), small_model(), recipe_with("w4a16g32-gguf"));
  export_gguf(checkpoint, out_, {});
  const auto& architecture = architecture_for(checkpoint.spec(), "x");
  const GgufPlan plan = make_plan(checkpoint.spec(), architecture, io::DType::q4_0, 0, "x");
  EXPECT_NO_THROW(verify_gguf(out_, checkpoint, plan, true));
  const std::string whole = testing::read_bytes(out_);
  const io::GgufFile file(out_);
  for (const char* name : {"token_embd.weight", "blk.1.attn_k.weight", "blk.0.ffn_norm.weight", "output.weight"}) {
    // The last byte of a tensor: of an embedding its last value, of a block type the last two codes.
    const io::TensorView view = file.tensor(name);
    const auto text = std::string(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size());
    std::string damaged = whole;
    damaged[whole.find(text) + text.size() - 1] ^= 0x11;
    write_bytes(folder_.path() / "damaged.gguf", damaged);
    EXPECT_THROW(verify_gguf(folder_.path() / "damaged.gguf", checkpoint, plan, true), std::logic_error) << name;
  }
  // Rows of K in our order.
  std::string unpaired = whole;
  const io::TensorView keys = file.tensor("blk.0.attn_k.weight");
  const auto text = std::string(reinterpret_cast<const char*>(keys.bytes.data()), keys.bytes.size());
  const std::size_t row = text.size() / 32;
  std::memmove(unpaired.data() + whole.find(text) + row, text.data() + 2 * row, row);
  write_bytes(folder_.path() / "damaged.gguf", unpaired);
  EXPECT_THROW(verify_gguf(folder_.path() / "damaged.gguf", checkpoint, plan, true), std::logic_error);
}

TEST_F(GgufExportTest, RefusalsNameTheFieldAndTheWayOut) {
  EXPECT_THAT(refusal<UnsupportedError>(small_model(), recipe_with("w4a8kv4-dynamic", {"rotate.r3=false"})),
              AllOf(HasSubstr("rotate.r4"), HasSubstr("--set rotate.r4=false"), HasSubstr("--for llama.cpp")));
  EXPECT_THAT(refusal<UnsupportedError>(small_model(),
                                        recipe_with("w4a8kv4-dynamic", {"rotate.r4=false", "rotate.heads=true"})),
              AllOf(HasSubstr("recipe field rotate.heads:"), HasSubstr("--set rotate.heads=false")));
  EXPECT_THAT(
      refusal<UnsupportedError>(small_model(), recipe_with("w4a16g32-gguf", {"weight.scale_type=float32"})),
      AllOf(HasSubstr("no binary16 number"), HasSubstr("--set weight.scale_type=f16"), HasSubstr("--round-scales")));
  EXPECT_THAT(refusal<UnsupportedError>(of_family("ministral", "MinistralForCausalLM"), recipe_with("w4a16g32-gguf")),
              HasSubstr("GGUF has no architecture for 'ministral'"));
}

TEST_F(GgufExportTest, ScalesAreRoundedWhereThatIsAskedFor) {
  const auto checkpoint =
      write_quantized(folder_.path(), small_model(), recipe_with("w4a16g32-gguf", {"weight.scale_type=float32"}));
  const GgufExport made = export_gguf(checkpoint, out_, {.scales = ScaleRounding::round});
  EXPECT_GT(made.difference.largest_relative, 0);
  EXPECT_LE(made.difference.largest_relative, 1.0 / 2048);
}

TEST_F(GgufExportTest, WhatIsLeftOutIsSaid) {
  const auto checkpoint = write_quantized(folder_.path(), small_model(),
                                          recipe_with("w4a8kv4-dynamic", {"rotate.r4=false", "weight.scale_type=f16"}));
  const GgufExport made = export_gguf(checkpoint, out_, {});
  ASSERT_EQ(made.left_out.size(), 3U);
  EXPECT_THAT(made.left_out[0], HasSubstr("8-bit activations"));
  EXPECT_THAT(made.left_out[1], HasSubstr("4-bit KV cache"));
  EXPECT_THAT(made.left_out[2], HasSubstr("R3"));
}

TEST_F(GgufExportTest, NothingOfOthersIsReplaced) {
  const auto checkpoint = write_quantized(folder_.path(), small_model(), recipe_with("w4a16g32-gguf"));
  const auto error = [&](const GgufOptions& options) {
    return message_of<InputError>([&] { export_gguf(checkpoint, out_, options); });
  };
  write_bytes(out_, "a file of mine");
  EXPECT_THAT(error({.replace = true}), HasSubstr("is no GGUF file that this program exported"));
  EXPECT_EQ(testing::read_bytes(out_), "a file of mine");
  fs::remove(out_);
  export_gguf(checkpoint, out_, {});
  EXPECT_THAT(error({}), HasSubstr("replace it with --force"));
  EXPECT_NO_THROW(export_gguf(checkpoint, out_, {.replace = true}));
}

TEST_F(GgufExportTest, AFullDiskLeavesNothing) {
  const auto checkpoint = write_quantized(folder_.path(), small_model(), recipe_with("w4a16g32-gguf"));
  const io::testing::FileSizeLimit limit(50'000);
  EXPECT_THROW(export_gguf(checkpoint, out_, {}), SystemError);
  EXPECT_FALSE(fs::exists(out_));
  EXPECT_FALSE(fs::exists(out_.string() + ".partial"));
}

}  // namespace
}  // namespace pq::exchange
