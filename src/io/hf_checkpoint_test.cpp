#include "io/hf_checkpoint.h"

#include <gmock/gmock.h>

#include <array>
#include <map>
#include <stdexcept>

#include "io/hf_config.h"
#include "io/model_source.h"
#include "io/test_files.h"
#include "model/spec_for_test.h"

namespace pq::io {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsSupersetOf;
using testing::message_of;
using ::testing::Not;
using testing::small_config;
using testing::TemporaryDirectory;
using testing::tensors_for;
using testing::write_bytes;
using testing::write_checkpoint;

template <typename E>
std::string open_error(const fs::path& model) {
  return message_of<E>([&] { HfCheckpoint::open(model.string()); });
}

TEST(HfCheckpoint, OpensTheSampleModel) {
  const fs::path directory = fs::path(PQ_SOURCE_DIR) / "examples" / "sample-model";
  const HfCheckpoint checkpoint = HfCheckpoint::open(directory.string() + "/");
  EXPECT_EQ(checkpoint.name(), "sample-model");
  EXPECT_EQ(checkpoint.spec().block_count, 6);
  EXPECT_EQ(checkpoint.config()["vocab_size"], 8192);
  EXPECT_FALSE(is_quantized_checkpoint(directory));
  const std::vector<std::int64_t> shape{8192, 256};
  const TensorView embedding = checkpoint.tensor(tensor_names::embedding, shape);
  EXPECT_EQ(embedding.dtype, DType::bf16);
  std::vector<float> row(256);
  rows_to_float32(embedding, 1, 1, row);
  EXPECT_NE(row[0], 0.0F);
  const std::vector<std::int64_t> wrong{256, 8192};
  EXPECT_THAT(message_of<FormatError>([&] { checkpoint.tensor(tensor_names::embedding, wrong); }),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("[8192, 256]"), HasSubstr("expected BF16 [256, 8192]")));
}

TEST(HfCheckpoint, RefusesMissingMisshapenAndIntegerTensors) {
  const TemporaryDirectory directory;
  const Json config = small_config();
  const auto tensors = tensors_for(config);
  write_checkpoint(directory.path(), config, tensors);
  EXPECT_NO_THROW(HfCheckpoint::open(directory.path().string()));
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    auto changed = tensors;
    changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(i));
    write_checkpoint(directory.path(), config, changed);
    EXPECT_THAT(open_error<FormatError>(directory.path()),
                AllOf(HasSubstr("model.safetensors"), HasSubstr("no tensor '" + tensors[i].name + "'"),
                      HasSubstr(shape_text(tensors[i].shape))));
    changed = tensors;
    changed[i].shape.back() += 1;
    write_checkpoint(directory.path(), config, changed);
    EXPECT_THAT(open_error<FormatError>(directory.path()),
                AllOf(HasSubstr("'" + tensors[i].name + "'"), HasSubstr(shape_text(changed[i].shape)),
                      HasSubstr("expected F32 " + shape_text(tensors[i].shape))));
  }
  auto changed = tensors;
  changed[3].dtype = DType::i32;
  write_checkpoint(directory.path(), config, changed);
  EXPECT_THAT(open_error<UnsupportedError>(directory.path()), AllOf(HasSubstr(changed[3].name), HasSubstr("I32")));
}

TEST(HfCheckpoint, GivesEachPartOfTheArchitecture) {
  const HfCheckpoint checkpoint = HfCheckpoint::open((fs::path(PQ_SOURCE_DIR) / "examples" / "sample-model").string());
  const LinearView up = checkpoint.linear(2, LinearId::up);
  EXPECT_EQ(up.weight.name, "model.layers.2.mlp.up_proj.weight");
  EXPECT_THAT(up.weight.shape, ElementsAre(checkpoint.spec().intermediate_size, 256));
  EXPECT_FALSE(up.bias.has_value());
  EXPECT_EQ(checkpoint.norm(1, NormId::mlp_input).name, "model.layers.1.post_attention_layernorm.weight");
  EXPECT_EQ(checkpoint.final_norm().name, "model.norm.weight");
  EXPECT_EQ(checkpoint.embedding().bytes.data(),
            checkpoint.tensor("model.embed_tokens.weight", std::array<std::int64_t, 2>{8192, 256}).bytes.data());
}

// A family that stores q, k and v as one tensor and gate and up as another: what a checkpoint must hold, and where a
// layer lies in it.
TEST(HfCheckpoint, ViewsTheRowsOfFusedTensors) {
  ModelSpec spec = small_spec(4, 3, 2, 1, 2);
  spec.block_count = 1;
  spec.vocab_size = 8;
  spec.qkv_bias = true;
  constexpr std::array qkv{LinearId::q, LinearId::k, LinearId::v};
  constexpr std::array gate_up{LinearId::gate, LinearId::up};
  const std::array fused{FusedLinears{"self_attn.qkv_proj", qkv}, FusedLinears{"mlp.gate_up_proj", gate_up}};

  const std::vector<TensorDeclaration> required = required_tensors(spec, fused);
  std::vector<std::string> names;
  for (const TensorDeclaration& declaration : required) names.push_back(declaration.name);
  EXPECT_THAT(names,
              IsSupersetOf({"model.layers.0.self_attn.qkv_proj.weight", "model.layers.0.self_attn.qkv_proj.bias",
                            "model.layers.0.mlp.gate_up_proj.weight", "model.layers.0.self_attn.o_proj.weight"}));
  EXPECT_THAT(names, Not(Contains(HasSubstr("up_proj.bias"))));
  EXPECT_THAT(names, Not(Contains(HasSubstr("k_proj"))));

  // Row r of a tensor holds r in every column, a bias r at r.
  std::map<std::string, std::vector<float>> values;
  const TensorLookup lookup = [&](std::string_view name, std::span<const std::int64_t> shape) {
    std::vector<float>& held = values[std::string(name)];
    const std::int64_t columns = shape.size() == 2 ? shape[1] : 1;
    for (std::int64_t i = 0; held.size() < static_cast<std::size_t>(shape[0] * columns); ++i)
      held.push_back(static_cast<float>(i / columns));
    return TensorView{
        std::string(name), DType::f32, {shape.begin(), shape.end()}, std::as_bytes(std::span(held)), "file"};
  };
  const auto floats = [](const TensorView& view) {
    std::vector<float> read(static_cast<std::size_t>(view.size()));
    to_float32(view, read);
    return read;
  };
  const LinearView key = linear_view(lookup, spec, 0, LinearId::k, fused);
  EXPECT_THAT(key.weight.shape, ElementsAre(2, 4));
  EXPECT_THAT(floats(key.weight), ElementsAre(4, 4, 4, 4, 5, 5, 5, 5));
  ASSERT_TRUE(key.bias.has_value());
  EXPECT_THAT(floats(*key.bias), ElementsAre(4, 5));
  EXPECT_THAT(floats(*linear_view(lookup, spec, 0, LinearId::v, fused).bias), ElementsAre(6, 7));
  const LinearView up = linear_view(lookup, spec, 0, LinearId::up, fused);
  EXPECT_THAT(floats(up.weight), ElementsAre(3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5));
  EXPECT_FALSE(up.bias.has_value());
  const LinearView down = linear_view(lookup, spec, 0, LinearId::down, fused);
  EXPECT_EQ(down.weight.name, "model.layers.0.mlp.down_proj.weight");
  EXPECT_THAT(down.weight.shape, ElementsAre(4, 3));
  EXPECT_THROW(down.weight.rows(2, 3), std::out_of_range);
}

TEST(HfCheckpoint, RefusesAConfigWithFewerBlocksThanTheFile) {
  const TemporaryDirectory directory;
  Json config = small_config();
  const auto tensors = tensors_for(config);
  config["num_hidden_layers"] = 1;
  write_checkpoint(directory.path(), config, tensors);
  EXPECT_THAT(open_error<FormatError>(directory.path()),
              AllOf(HasSubstr("model.layers.1."), HasSubstr("num_hidden_layers = 1")));
}

TEST(HfCheckpoint, NeedsQwenBiasesAndIgnoresOldBuffers) {
  const TemporaryDirectory directory;
  Json config = small_config();
  config["model_type"] = "qwen2";
  config["architectures"] = {"Qwen2ForCausalLM"};
  auto tensors = tensors_for(config);
  EXPECT_EQ(tensors.size(), tensors_for(small_config()).size() + 6);
  tensors.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::f32, {2}});
  write_checkpoint(directory.path(), config, tensors);
  EXPECT_TRUE(HfCheckpoint::open(directory.path().string()).spec().qkv_bias);
  write_checkpoint(directory.path(), config, tensors_for(small_config()));
  EXPECT_THAT(open_error<FormatError>(directory.path()), HasSubstr("'model.layers.0.self_attn.q_proj.bias'"));
}

TEST(HfCheckpoint, TiesAsTransformersDoes) {
  const TemporaryDirectory directory;
  Json config = small_config();
  const auto untied = tensors_for(config);
  config["tie_word_embeddings"] = true;
  const auto tied = tensors_for(config);
  EXPECT_EQ(tied.size() + 1, untied.size());
  write_checkpoint(directory.path(), config, tied);
  EXPECT_TRUE(HfCheckpoint::open(directory.path().string()).spec().tied_embeddings);
  write_checkpoint(directory.path(), config, untied);  // a head of its own, with other values
  EXPECT_FALSE(HfCheckpoint::open(directory.path().string()).spec().tied_embeddings);
  SafetensorsWriter writer(directory.path() / "model.safetensors", untied);
  for (const TensorDeclaration& tensor : untied)
    writer.append(tensor.name, std::vector<std::byte>(tensor.byte_count()));
  writer.finish();  // a head that repeats the embedding
  EXPECT_TRUE(HfCheckpoint::open(directory.path().string()).spec().tied_embeddings);
}

// Either of the two names, in every way to the values; without it neither would do.
TEST(HfCheckpoint, ATiedModelMayStoreEitherName) {
  const TemporaryDirectory directory;
  Json config = small_config();
  config["tie_word_embeddings"] = true;
  auto tensors = tensors_for(config);
  ASSERT_EQ(tensors.front().name, tensor_names::embedding);
  write_checkpoint(directory.path(), config, tensors);
  const auto bytes_of = [](const TensorView& view) {
    return std::string(reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size());
  };
  const std::string values = bytes_of(HfCheckpoint::open(directory.path().string()).embedding());
  tensors.front().name = tensor_names::lm_head;
  write_checkpoint(directory.path(), config, tensors);
  const HfCheckpoint checkpoint = HfCheckpoint::open(directory.path().string());
  EXPECT_TRUE(checkpoint.spec().tied_embeddings);
  EXPECT_EQ(bytes_of(checkpoint.embedding()), values);
  EXPECT_EQ(bytes_of(checkpoint.lm_head()), values);
  const ModelSource source = source_of(checkpoint);
  EXPECT_EQ(bytes_of(source.embedding), values);
  EXPECT_EQ(bytes_of(source.lm_head), values);
  tensors.erase(tensors.begin());
  write_checkpoint(directory.path(), config, tensors);
  EXPECT_THAT(open_error<FormatError>(directory.path()), HasSubstr("no tensor 'model.embed_tokens.weight'"));
  config["tie_word_embeddings"] = false;
  tensors = tensors_for(config);
  tensors.erase(tensors.begin());
  write_checkpoint(directory.path(), config, tensors);
  EXPECT_THAT(open_error<FormatError>(directory.path()), HasSubstr("no tensor 'model.embed_tokens.weight'"));
}

TEST(HfCheckpoint, OpensARealModelThatStoresItsHeadAlone) {
  const fs::path model = fs::path(PQ_SHARED_DIR) / "models" / "tinystories-656k";
  if (!fs::exists(model)) GTEST_SKIP() << model << " is not there";
  const HfCheckpoint checkpoint = HfCheckpoint::open(model.string());
  EXPECT_TRUE(checkpoint.spec().tied_embeddings);
  EXPECT_FALSE(checkpoint.has(tensor_names::embedding));
  EXPECT_EQ(checkpoint.embedding().bytes.data(), checkpoint.lm_head().bytes.data());
}

TEST(HfCheckpoint, RefusesDamagedFiles) {
  const TemporaryDirectory directory;
  const Json config = small_config();
  write_checkpoint(directory.path(), config, tensors_for(config));
  const fs::path path = directory.path() / "model.safetensors";
  fs::resize_file(path, fs::file_size(path) - 1);
  EXPECT_THAT(open_error<FormatError>(directory.path()),
              AllOf(HasSubstr("model.safetensors"), HasSubstr("'lm_head.weight'")));
  write_bytes(directory.path() / "config.json", "{\"model_type\": ");
  EXPECT_THAT(open_error<FormatError>(directory.path()), HasSubstr("config.json: is not valid JSON"));
}

}  // namespace
}  // namespace pq::io
