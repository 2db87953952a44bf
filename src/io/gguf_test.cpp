#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "io/ggml_blocks.h"
#include "io/gguf_checkpoint.h"
#include "io/gguf_file.h"
#include "io/gguf_for_test.h"
#include "io/hf_checkpoint.h"
#include "io/hf_config.h"
#include "io/test_files.h"
#include "model/block_layout.h"

namespace pq::io {
namespace {

using testing::add_small_block;
using ::testing::AllOf;
using testing::bytes_of;
using testing::gguf_text;
using testing::GgufBuilder;
using ::testing::HasSubstr;
using testing::message_of;
using testing::small_llama;
using testing::small_llama_keys;
using testing::TemporaryDirectory;
using testing::write_bytes;

const fs::path goldens = fs::path(PQ_SOURCE_DIR) / "tests" / "goldens";

std::vector<float> floats_of(const TensorView& view) {
  std::vector<float> values(static_cast<std::size_t>(view.size()));
  to_float32(view, values);
  return values;
}

/// Equal bit for bit.
void expect_same(const std::vector<float>& a, const std::vector<float>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  EXPECT_EQ(std::memcmp(a.data(), b.data(), a.size() * sizeof(float)), 0) << what;
}

template <typename E>
std::string read_error(const std::string& bytes) {
  return message_of<E>([&] { GgufFile(std::as_bytes(std::span(bytes)), "bad.gguf"); });
}

template <typename E>
std::string open_error(const GgufBuilder& builder) {
  const std::string bytes = builder.bytes();
  return message_of<E>([&] {
    std::vector<GgufFile> parts;
    parts.emplace_back(std::as_bytes(std::span(bytes)), "bad.gguf");
    gguf_checkpoint(std::move(parts), "bad.gguf");
  });
}

TEST(GgmlBlocks, EqualTheGgufPackageBitForBit) {
  const GgufFile file(goldens / "gguf" / "blocks.gguf");
  const SafetensorsFile expected(goldens / "gguf" / "blocks.safetensors");
  ASSERT_EQ(file.tensor_names().size(), 13U);
  for (const std::string& name : file.tensor_names()) {
    const TensorView view = file.tensor(name);
    EXPECT_EQ(dtype_name(view.dtype), name);
    const TensorView golden = expected.tensor(name);
    EXPECT_EQ(view.shape, golden.shape);
    expect_same(floats_of(view), floats_of(golden), name);
    // A row alone, as the embedding is read.
    std::vector<float> row(static_cast<std::size_t>(view.shape[1]));
    rows_to_float32(view, 1, 1, row);
    std::vector<float> golden_row(row.size());
    rows_to_float32(golden, 1, 1, golden_row);
    expect_same(row, golden_row, name);
  }
}

TEST(GgmlBlocks, NamesTheTypesThatItDoesNotRead) {
  EXPECT_EQ(ggml_type_text(23), "IQ4_XS (23)");
  EXPECT_EQ(ggml_type_text(99), "99");
  EXPECT_EQ(dtype_of_ggml_type(12), DType::q4_k);
  EXPECT_EQ(dtype_of_ggml_type(4), std::nullopt);
  EXPECT_EQ(dtype_from_name("Q4_K"), std::nullopt);  // no safetensors header may ask for one
}

struct Model {
  const char* golden;
  bool rows_move = false;
  const char* unsaid = "";  ///< a field of this odd checkpoint that GGUF has no key for
};

class GgufModel : public ::testing::TestWithParam<Model> {};

TEST_P(GgufModel, IsTheDirectoryThatItWasMadeFrom) {
  const auto directory = HfCheckpoint::open((goldens / "nn" / GetParam().golden).string());
  const auto file = HfCheckpoint::open((goldens / "gguf" / (std::string(GetParam().golden) + ".gguf")).string());
  ModelSpec spec = directory.spec();
  spec.norm_offset = false;
  // float32 in GGUF's metadata.
  EXPECT_NEAR(file.spec().rms_norm_eps, spec.rms_norm_eps, 1e-12);
  spec.rms_norm_eps = file.spec().rms_norm_eps;
  for (const ModelSpecField& field : model_spec_fields()) {
    if (field.key == GetParam().unsaid) continue;
    EXPECT_EQ(field.get(file.spec()), field.get(spec)) << field.key;
  }

  const float offset = directory.spec().norm_offset ? 1 : 0;
  const auto expect_norm = [&](const TensorView& a, const TensorView& b) {
    std::vector<float> expected = floats_of(b);
    for (float& value : expected) value += offset;
    expect_same(floats_of(a), expected, b.name);
  };
  expect_same(floats_of(file.embedding()), floats_of(directory.embedding()), "embedding");
  expect_same(floats_of(file.lm_head()), floats_of(directory.lm_head()), "lm_head");
  expect_norm(file.final_norm(), directory.final_norm());
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    for (const NormRow& norm : all_norms(spec)) expect_norm(file.norm(block, norm.id), directory.norm(block, norm.id));
    for (const LinearId id : all_linears) {
      LinearView linear = file.linear(block, id);
      const LinearView expected = directory.linear(block, id);
      expect_same(floats_of(linear.weight), floats_of(expected.weight), expected.weight.name);
      ASSERT_EQ(linear.bias.has_value(), expected.bias.has_value());
      if (linear.bias) expect_same(floats_of(*linear.bias), floats_of(*expected.bias), expected.bias->name);
      // The rows as they stand are others: a reader that forgets their order must fail here.
      const bool moves = GetParam().rows_move && (id == LinearId::q || id == LinearId::k);
      EXPECT_EQ(linear.weight.rope_pairs > 0, moves);
      linear.weight.rope_pairs = 0;
      EXPECT_EQ(floats_of(linear.weight) == floats_of(expected.weight), !moves);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Goldens, GgufModel,
                         ::testing::Values(Model{"llama-rope-llama3", true}, Model{"qwen2-yarn"}, Model{"qwen3"},
                                           Model{"phi3-longrope-short"}, Model{"smollm3", true, "block_pattern"},
                                           Model{"granite", true}, Model{"gemma3-window", false, "attention_scale"},
                                           Model{"olmo2"}),
                         [](const auto& instance) {
                           std::string name = instance.param.golden;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

TEST(GgufFile, ReadsMetadataOfEveryType) {
  GgufBuilder builder;
  builder.value("u8", 0, bytes_of(std::uint8_t{200}))
      .value("i8", 1, bytes_of(std::int8_t{-5}))
      .value("u16", 2, bytes_of(std::uint16_t{60000}))
      .value("i16", 3, bytes_of(std::int16_t{-30000}))
      .value("i32", 5, bytes_of(std::int32_t{-7}))
      .value("u64", 10, bytes_of(std::numeric_limits<std::uint64_t>::max()))
      .value("i64", 11, bytes_of(std::int64_t{-9}))
      .value("f64", 12, bytes_of(0.1))
      .boolean("bool", true)
      .text("text", "two words")
      .texts("texts", {"", "b"});
  for (const std::uint32_t version : {2U, 3U}) {
    builder.version = version;
    const std::string bytes = builder.bytes();
    const GgufFile file(std::as_bytes(std::span(bytes)), "test");
    EXPECT_EQ(file.version(), version);
    EXPECT_EQ(std::get<std::uint64_t>(*file.find("u8")), 200U);
    EXPECT_EQ(std::get<std::int64_t>(*file.find("i8")), -5);
    EXPECT_EQ(std::get<std::uint64_t>(*file.find("u64")), std::numeric_limits<std::uint64_t>::max());
    EXPECT_EQ(std::get<std::int64_t>(*file.find("i16")), -30000);
    EXPECT_EQ(std::get<double>(*file.find("f64")), 0.1);
    EXPECT_EQ(std::get<bool>(*file.find("bool")), true);
    EXPECT_EQ(std::get<std::string_view>(*file.find("text")), "two words");
    std::vector<std::string> texts;
    std::get<GgufArray>(*file.find("texts")).for_each_string([&](std::string_view text) { texts.emplace_back(text); });
    EXPECT_THAT(texts, ::testing::ElementsAre("", "b"));
    EXPECT_EQ(file.find("nothing"), nullptr);
  }
}

TEST(GgufFile, RefusesEveryTruncation) {
  const std::string whole = small_llama().bytes();
  const std::size_t data_end = whole.size();
  for (std::size_t size = 0; size < data_end; size += size < 2000 ? 1 : 97) {
    EXPECT_THAT(read_error<FormatError>(whole.substr(0, size)), HasSubstr("bad.gguf")) << size;
  }
}

TEST(GgufFile, RefusesWhatIsNotGguf) {
  GgufBuilder file = small_llama();
  file.magic = "GGML";
  EXPECT_THAT(read_error<FormatError>(file.bytes()), HasSubstr("does not begin with 'GGUF'"));
  file = small_llama();
  for (const std::uint32_t version : {0U, 1U, 4U}) {
    file.version = version;
    EXPECT_THAT(read_error<UnsupportedError>(file.bytes()),
                AllOf(HasSubstr("version " + std::to_string(version)), HasSubstr("2 and 3")));
  }
  file.version = 0x03000000;
  EXPECT_THAT(read_error<UnsupportedError>(file.bytes()), HasSubstr("big-endian"));
}

TEST(GgufFile, RefusesCountsAndLengthsThatLie) {
  constexpr std::uint64_t huge = std::uint64_t{1} << 63;
  for (const std::uint64_t count : {huge, std::numeric_limits<std::uint64_t>::max(), std::uint64_t{1} << 40}) {
    GgufBuilder file = small_llama();
    file.tensor_count = count;
    EXPECT_THAT(read_error<FormatError>(file.bytes()), HasSubstr("tensors, more than it can hold"));
    file = small_llama();
    file.key_count = count;
    EXPECT_THAT(read_error<FormatError>(file.bytes()), HasSubstr("keys, more than it can hold"));
    file = GgufBuilder();
    file.value("long", 8, bytes_of(count) + "abc");
    EXPECT_THAT(read_error<FormatError>(file.bytes()), HasSubstr("ends inside the value of 'long'"));
    file = GgufBuilder();
    file.value("long", 9, bytes_of(std::uint32_t{4}) + bytes_of(count));
    EXPECT_THAT(read_error<FormatError>(file.bytes()), HasSubstr("more than the file can hold"));
    file = GgufBuilder();
    file.info("t", {count, count}, 0, 0);
    EXPECT_THAT(read_error<FormatError>(file.bytes()), HasSubstr("tensor 't'"));
  }
  GgufBuilder file;
  file.value("what", 13, "");
  EXPECT_THAT(read_error<FormatError>(file.bytes()), HasSubstr("unknown type 13"));
  file = GgufBuilder();
  file.value("nested", 9, bytes_of(std::uint32_t{9}) + bytes_of(std::uint64_t{1}));
  EXPECT_THAT(read_error<UnsupportedError>(file.bytes()), HasSubstr("array of arrays"));
  file = GgufBuilder();
  file.u32("twice", 1).u32("twice", 1);
  EXPECT_THAT(read_error<FormatError>(file.bytes()), HasSubstr("'twice' twice"));
}

TEST(GgufFile, RefusesTensorsThatDoNotFit) {
  const auto error = [](const auto& change) {
    GgufBuilder file;
    file.floats("first", {8});
    change(file);
    return read_error<FormatError>(file.bytes());
  };
  EXPECT_THAT(error([](auto& f) { f.info("t", {8}, 0, 0); }), HasSubstr("inside the tensor before it"));
  EXPECT_THAT(error([](auto& f) { f.info("t", {8}, 0, 36); }), HasSubstr("not at a multiple of 32"));
  EXPECT_THAT(error([](auto& f) { f.info("t", {8}, 0, 64); }), HasSubstr("hole"));
  EXPECT_THAT(error([](auto& f) { f.info("t", {8}, 0, 32); }), HasSubstr("behind the end of the file"));
  EXPECT_THAT(error([](auto& f) { f.floats("first", {8}); }), HasSubstr("twice"));
  EXPECT_THAT(error([](auto& f) { f.tensor("t", {33}, 8, std::string(68, 'x')); }),
              HasSubstr("whole blocks of 32 (Q8_0)"));
  EXPECT_THAT(error([](auto& f) { f.info("t", {}, 0, 32); }), HasSubstr("0 dimensions"));
  EXPECT_THAT(error([](auto& f) { f.info("t", {1, 1, 1, 1, 1}, 0, 32); }), HasSubstr("5 dimensions"));
  EXPECT_THAT(error([](auto& f) { f.info("t", {0}, 0, 32); }), HasSubstr("dimension of 0"));
  EXPECT_THAT(error([](auto& f) { f.u32("general.alignment", 24); }), HasSubstr("power of two"));
  GgufBuilder file;
  file.info("t", {256}, 23, 0);
  EXPECT_THAT(read_error<UnsupportedError>(file.bytes()), AllOf(HasSubstr("tensor 't'"), HasSubstr("IQ4_XS (23)")));
}

TEST(GgufCheckpoint, RefusesByName) {
  const auto with = [](const std::function<void(GgufBuilder&)>& change) {
    GgufBuilder file = small_llama();
    change(file);
    return open_error<UnsupportedError>(file);
  };
  GgufBuilder moe;
  moe.text("general.architecture", "qwen3moe").text("tokenizer.ggml.model", "gpt2").text("tokenizer.ggml.pre", "qwen2");
  EXPECT_THAT(open_error<UnsupportedError>(moe), AllOf(HasSubstr("'qwen3moe'"), HasSubstr("gemma3")));
  EXPECT_THAT(with([](GgufBuilder& f) { f.u32("llama.expert_count", 8); }), HasSubstr("8 experts"));
  EXPECT_THAT(with([](GgufBuilder& f) { f.text("llama.rope.scaling.type", "dynamic"); }), HasSubstr("'dynamic'"));
  EXPECT_THAT(with([](GgufBuilder& f) { f.floats("blk.0.attn_gate.weight", {8}); }),
              HasSubstr("blk.0.attn_gate.weight"));
  EXPECT_THAT(with([](GgufBuilder& f) {
                f.numbers<std::int32_t>("llama.attention.head_count_kv", 5, {2, 1});
              }),
              HasSubstr("differs from block to block"));

  GgufBuilder unknown;
  unknown.text("general.architecture", "llama")
      .text("tokenizer.ggml.model", "gpt2")
      .text("tokenizer.ggml.pre", "my-bpe");
  EXPECT_THAT(open_error<UnsupportedError>(unknown), AllOf(HasSubstr("'my-bpe'"), HasSubstr("llama-bpe")));
  GgufBuilder pieces;
  pieces.text("general.architecture", "llama").text("tokenizer.ggml.model", "t5");
  EXPECT_THAT(open_error<UnsupportedError>(pieces), HasSubstr("'t5'"));
  GgufBuilder without;
  without.u32("a", 1);
  EXPECT_THAT(open_error<FormatError>(without), HasSubstr("general.architecture"));
}

TEST(GgufCheckpoint, ATiedModelMayStoreItsHeadAlone) {
  GgufBuilder builder = small_llama_keys();
  builder.floats("output.weight", {8, 11}, 0.1F).floats("output_norm.weight", {8});
  add_small_block(builder, 0);
  add_small_block(builder, 1);
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "head.gguf";
  write_bytes(path, builder.bytes());
  const auto checkpoint = HfCheckpoint::open(path.string());
  EXPECT_TRUE(checkpoint.spec().tied_embeddings);
  EXPECT_EQ(checkpoint.spec().vocab_size, 11);
  EXPECT_EQ(checkpoint.embedding().bytes.data(), checkpoint.lm_head().bytes.data());
}

TEST(GgufCheckpoint, MakesTheTextsOfADirectory) {
  GgufBuilder builder = small_llama();
  builder.text("tokenizer.chat_template", "{{ messages }}");
  const TemporaryDirectory directory;
  const fs::path path = directory.path() / "small.gguf";
  write_bytes(path, builder.bytes());
  const auto checkpoint = HfCheckpoint::open(path.string());
  EXPECT_EQ(checkpoint.name(), "small.gguf");
  EXPECT_TRUE(checkpoint.spec().tied_embeddings);
  EXPECT_EQ(checkpoint.spec().kv_head_count, 2);
  EXPECT_EQ(checkpoint.config()["rms_norm_eps"], 1e-5);
  EXPECT_THAT(checkpoint.spec().eos_token_ids, ::testing::ElementsAre(10));
  EXPECT_FALSE(is_quantized_checkpoint(path));
  const Json tokenizer = checkpoint.texts().json("tokenizer.json");
  EXPECT_EQ(tokenizer["model"]["vocab"]["abc"], 4);
  EXPECT_EQ(tokenizer["model"]["merges"][1], "ab c");
  EXPECT_EQ(tokenizer["added_tokens"].size(), 1U);
  EXPECT_EQ(tokenizer["added_tokens"][0]["content"], "<e>");
  EXPECT_EQ(checkpoint.texts().json("tokenizer_config.json")["chat_template"], "{{ messages }}");
}

TEST(GgufCheckpoint, JoinsTheParts) {
  const TemporaryDirectory directory;
  const auto part = [&](int number) { return directory.path() / fmt::format("m-{:05}-of-00002.gguf", number); };
  GgufBuilder first = small_llama_keys();
  first.value("split.no", 2, bytes_of(std::uint16_t{0})).value("split.count", 2, bytes_of(std::uint16_t{2}));
  first.value("split.tensors.count", 5, bytes_of(std::int32_t{20}));
  first.floats("token_embd.weight", {8, 11}, 0.1F).floats("output_norm.weight", {8});
  add_small_block(first, 0);
  GgufBuilder second;
  second.value("split.no", 2, bytes_of(std::uint16_t{1})).value("split.count", 2, bytes_of(std::uint16_t{2}));
  add_small_block(second, 1);
  write_bytes(part(1), first.bytes());
  const auto open = [&](int number) { HfCheckpoint::open(part(number).string()); };
  EXPECT_THAT(message_of<InputError>([&] { open(1); }),
              AllOf(HasSubstr("m-00002-of-00002.gguf"), HasSubstr("missing")));
  write_bytes(part(2), second.bytes());
  EXPECT_EQ(HfCheckpoint::open(part(1).string()).spec().block_count, 2);
  EXPECT_THAT(message_of<InputError>([&] { open(2); }),
              AllOf(HasSubstr("part 2 of 2"), HasSubstr("m-00001-of-00002.gguf")));
  write_bytes(part(2), first.bytes());
  EXPECT_THAT(message_of<FormatError>([&] { open(1); }), HasSubstr("is not part 2 of 2"));
  second.floats("blk.0.attn_norm.weight", {8});
  write_bytes(part(2), second.bytes());
  EXPECT_THAT(message_of<FormatError>([&] { open(1); }), HasSubstr("20 tensors"));
  fs::rename(part(1), directory.path() / "other.gguf");
  EXPECT_THAT(message_of<InputError>([&] { HfCheckpoint::open((directory.path() / "other.gguf").string()); }),
              HasSubstr("-00001-of-00002.gguf"));
}

}  // namespace
}  // namespace pq::io
