#include "exchange/gguf_tokens.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "exchange/export_for_test.h"
#include "io/gguf_for_test.h"
#include "io/gguf_metadata.h"
#include "io/gguf_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace pq::exchange {
namespace {

namespace fs = std::filesystem;

using Ids = std::vector<std::int32_t>;
using ::testing::HasSubstr;
using testing::message_of;
using testing::small_tokenizer;

const std::filesystem::path goldens = std::filesystem::path(PQ_SOURCE_DIR) / "tests/goldens/gguf_tokenizers";

TextFiles texts_of(const Json& tokenizer) {
  TextFiles::Texts texts;
  texts["tokenizer.json"] = [tokenizer] { return tokenizer.dump(); };
  return {"MODEL", std::move(texts)};
}

ModelSpec spec_of(std::int64_t vocab_size) {
  ModelSpec spec;
  spec.vocab_size = vocab_size;
  return spec;
}

/// A GGUF file of nothing but the tokenizer.
std::string exported(const Json& tokenizer, std::int64_t vocab_size) {
  GgufKeys keys;
  add_tokenizer(keys, texts_of(tokenizer), spec_of(vocab_size));
  io::testing::GgufBuilder file;
  file.keys = keys.bytes();
  file.key_count = keys.count();
  return file.bytes();
}

/// Vocabularies cut out of real ones, and the ids that Hugging Face's library gives with them.
class ExportedTokenizer : public ::testing::TestWithParam<const char*> {};

TEST_P(ExportedTokenizer, GivesTheLibrarysIds) {
  const Json golden = read_json_file(goldens / "cases.json")[GetParam()];
  const io::GgufFile theirs(goldens / (std::string(GetParam()) + ".gguf"));
  const io::GgufMetadata expected(theirs);
  const auto size = static_cast<std::int64_t>(expected.array("tokenizer.ggml.tokens")->count);
  const std::string bytes = exported(golden["tokenizer"], size);
  const io::GgufFile file(std::as_bytes(std::span(bytes)), "export.gguf");
  const io::GgufMetadata metadata(file);
  EXPECT_EQ(metadata.text("tokenizer.ggml.model"), expected.text("tokenizer.ggml.model"));
  const Tokenizer tokenizer = Tokenizer::parse(io::gguf_tokenizer_json(metadata), GetParam());
  for (const Json& row : golden["cases"]) {
    EXPECT_EQ(tokenizer.encode(row["text"].get<std::string>(), false), row["ids"].get<Ids>()) << row["text"];
    EXPECT_EQ(tokenizer.encode(row["text"].get<std::string>(), true), row["ids_special"].get<Ids>()) << row["text"];
  }
}

INSTANTIATE_TEST_SUITE_P(Families, ExportedTokenizer,
                         ::testing::Values("qwen3", "smollm3", "mistral-nemo", "granite", "olmo2", "gpt-2", "gemma",
                                           "llama-2"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(GgufTokens, WhatHasNoPlaceIsRefusedByName) {
  const auto refusal = [](const std::function<void(Json&)>& edit) {
    Json tokenizer = small_tokenizer();
    edit(tokenizer);
    return message_of<UnsupportedError>([&] { exported(tokenizer, 262); });
  };
  EXPECT_THAT(refusal([](Json& t) { t["model"]["type"] = "Unigram"; }), HasSubstr("field 'model.type' is 'Unigram'"));
  EXPECT_THAT(refusal([](Json& t) {
                t["normalizer"] = {{"type", "Lowercase"}};
              }),
              HasSubstr("'normalizer' has the step 'Lowercase'"));
  EXPECT_THAT(
      refusal([](Json& t) {
        t["pre_tokenizer"] = {
            {"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Split"}, {"pattern", {{"Regex", "\\p{N}+"}}}, {"behavior", "Isolated"}, {"invert", false}},
              {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}}}}};
      }),
      HasSubstr("cuts by \\p{N}+, for which llama.cpp has no name"));
  EXPECT_THAT(message_of<FormatError>([] { exported(small_tokenizer(), 200); }),
              HasSubstr("and the model has 200 tokens"));
}

TEST(GgufTokens, ScoresInAnotherOrderAreSeen) {
  // The variant of the gguf package's converter: all scores alike.
  const Json golden = read_json_file(goldens / "cases.json")["llama-2"];
  const io::GgufFile theirs(goldens / "llama-2.gguf");
  const std::uint64_t size = io::GgufMetadata(theirs).array("tokenizer.ggml.tokens")->count;
  const std::string bytes = exported(golden["tokenizer"], static_cast<std::int64_t>(size));
  const io::GgufFile file(std::as_bytes(std::span(bytes)), "export.gguf");
  const auto scores = *io::GgufMetadata(file).array("tokenizer.ggml.scores");
  std::string broken = bytes;
  auto* at = reinterpret_cast<float*>(broken.data() + (scores.bytes.data() - std::as_bytes(std::span(bytes)).data()));
  for (std::uint64_t i = 0; i < scores.count / 2; ++i) std::swap(at[i], at[scores.count - 1 - i]);
  const io::GgufFile other(std::as_bytes(std::span(broken)), "broken.gguf");
  TextFiles::Texts texts;
  texts["tokenizer.json"] = [&] { return io::gguf_tokenizer_json(io::GgufMetadata(other)); };
  EXPECT_THAT(message_of<UnsupportedError>([&] {
                compare_tokenizers(texts_of(golden["tokenizer"]), {"broken.gguf", std::move(texts)});
              }),
              HasSubstr("into other tokens"));
}

}  // namespace
}  // namespace pq::exchange
