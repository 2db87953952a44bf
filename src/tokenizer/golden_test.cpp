#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/stopwatch.h"
#include "tokenizer/tokenizer.h"

namespace pq {
namespace {

using Json = nlohmann::json;
using Ids = std::vector<std::int32_t>;

const std::filesystem::path shared_directory = PQ_SHARED_DIR;
const std::filesystem::path goldens = std::filesystem::path(PQ_SOURCE_DIR) / "tests/goldens/tokenizer";

// Made by tests/goldens/tokenizer_goldens.py with Hugging Face tokenizers.
const Json& texts() {
  static const Json json = Json::parse(read_text_file(goldens / "texts.json"));
  return json;
}

template <typename Hash>
Hash fnv1a(const Ids& ids, Hash offset, Hash prime) {
  Hash value = offset;
  for (const std::int32_t id : ids) {
    for (int shift = 0; shift < 32; shift += 8) {
      value = (value ^ ((static_cast<std::uint32_t>(id) >> shift) & 0xffU)) * prime;
    }
  }
  return value;
}
std::uint32_t hash32(const Ids& ids) { return fnv1a<std::uint32_t>(ids, 0x811c9dc5U, 0x01000193U); }
std::uint64_t hash64(const Ids& ids) { return fnv1a<std::uint64_t>(ids, 0xcbf29ce484222325U, 0x100000001b3U); }

std::string stream(const Tokenizer& tokenizer, const Ids& ids, bool skip) {
  StreamDecoder decoder(tokenizer, skip);
  std::string text;
  for (const std::int32_t id : ids) text += decoder.push(id);
  return text + decoder.finish();
}

void check_cases(const Tokenizer& tokenizer, const Json& cases) {
  ASSERT_FALSE(cases.empty());
  for (const Json& row : cases) {
    const auto text = row["text"].get<std::string>();
    const auto special = row["ids_special"].get<Ids>();
    SCOPED_TRACE(row["text"].dump());
    EXPECT_EQ(tokenizer.encode(text, false), row["ids"].get<Ids>());
    EXPECT_EQ(tokenizer.encode(text, true), special);
    EXPECT_EQ(tokenizer.decode(special, false), row["decoded"].get<std::string>());
    EXPECT_EQ(stream(tokenizer, special, false), row["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer.decode(special, true), row["decoded_skip"].get<std::string>());
  }
}

class TokenizerGoldenTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(directory())) GTEST_SKIP() << directory() << " is not there";
  }
  std::filesystem::path directory() const { return shared_directory / "data/tokenizers" / GetParam(); }
  Tokenizer tokenizer() const { return Tokenizer::load(directory()); }
};

TEST_P(TokenizerGoldenTest, TrickyTexts) { check_cases(tokenizer(), texts()[GetParam()]["cases"]); }

TEST_P(TokenizerGoldenTest, DecodesAnyIds) {
  const Tokenizer loaded = tokenizer();
  for (const Json& row : texts()[GetParam()]["decodes"]) {
    EXPECT_EQ(loaded.decode(row["ids"].get<Ids>(), false), row["decoded"].get<std::string>()) << row["ids"];
  }
}

TEST_P(TokenizerGoldenTest, EveryLineAndWholeFilesOfWikiText) {
  const Tokenizer loaded = tokenizer();
  const std::string bytes = read_whole_file(goldens / ("lines_" + GetParam() + ".bin"));
  std::vector<std::uint32_t> hashes(bytes.size() / 4);
  std::memcpy(hashes.data(), bytes.data(), hashes.size() * 4);
  std::size_t line = 0;
  std::size_t wrong = 0;
  for (const std::string file : {"wiki.test.raw", "wiki.valid.raw", "wikitext2_train_5k.txt"}) {
    const std::string text = read_text_file(shared_directory / "data/wikitext2" / file);
    for (std::size_t begin = 0; begin <= text.size(); ++line) {
      const std::size_t end = std::min(text.find('\n', begin), text.size());
      ASSERT_LT(line, hashes.size());
      if (hash32(loaded.encode(std::string_view(text).substr(begin, end - begin), false)) != hashes[line] &&
          ++wrong < 4) {
        ADD_FAILURE() << file << ": " << text.substr(begin, std::min<std::size_t>(end - begin, 200));
      }
      begin = end + 1;
    }
    const Json& golden = texts()[GetParam()]["files"][file];
    const Stopwatch watch;
    const Ids ids = loaded.encode(text, false);
    RecordProperty(file + "_seconds", std::to_string(watch.seconds()));
    EXPECT_EQ(ids.size(), golden["count"].get<std::size_t>()) << file;
    EXPECT_EQ(hash64(ids), golden["fnv1a64"].get<std::uint64_t>()) << file;
    EXPECT_EQ(loaded.decode(ids, false), text) << file;
  }
  EXPECT_EQ(line, hashes.size());
  EXPECT_EQ(wrong, 0U);
}

INSTANTIATE_TEST_SUITE_P(Shared, TokenizerGoldenTest,
                         testing::Values("llama2", "llama3", "qwen2.5", "mistral-v0.3", "smollm2"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           for (char& c : name) {
                             if (std::isalnum(static_cast<unsigned char>(c)) == 0) c = '_';
                           }
                           return name;
                         });

TEST(TokenizerGolden, VectorsOfLlamaCpp) {
  for (const std::string name : {"llama2", "llama3", "qwen2.5"}) {
    const std::filesystem::path directory = shared_directory / "data/tokenizers" / name;
    if (!std::filesystem::exists(directory)) GTEST_SKIP() << directory << " is not there";
    const Tokenizer tokenizer = Tokenizer::load(directory);
    const Json vectors = Json::parse(read_text_file(directory / "vectors.json"));
    ASSERT_FALSE(vectors.empty());
    for (const Json& row : vectors) {
      EXPECT_EQ(tokenizer.encode(row["text"].get<std::string>(), false), row["ids"].get<Ids>()) << row["text"];
    }
  }
}

TEST(TokenizerGolden, SampleModel) {
  const Tokenizer tokenizer = Tokenizer::load(std::filesystem::path(PQ_SOURCE_DIR) / "examples/sample-model");
  const Json& golden = texts()["sample-model"];
  check_cases(tokenizer, golden["cases"]);
  for (const Json& row : golden["decodes"]) {
    EXPECT_EQ(tokenizer.decode(row["ids"].get<Ids>(), false), row["decoded"].get<std::string>()) << row["ids"];
  }
}

TEST(TokenizerVariants, EqualTheLibrary) {
  const Json variants = Json::parse(read_text_file(goldens / "variants.json"));
  ASSERT_GT(variants.size(), 50U);
  for (const Json& variant : variants) {
    const auto name = variant["name"].get<std::string>();
    SCOPED_TRACE(name);
    check_cases(Tokenizer::parse(variant["tokenizer"].dump(), name), variant["cases"]);
  }
}

// A tokenizer with one merge less must not pass as equal.
TEST(TokenizerVariants, ACorruptedVocabularyIsNoticed) {
  Json variant = Json::parse(read_text_file(goldens / "variants.json"))[0];
  variant["tokenizer"]["model"]["merges"].erase(0);
  const Tokenizer tokenizer = Tokenizer::parse(variant["tokenizer"].dump(), "broken");
  std::size_t different = 0;
  for (const Json& row : variant["cases"]) {
    different += tokenizer.encode(row["text"].get<std::string>(), false) != row["ids"].get<Ids>() ? 1 : 0;
  }
  EXPECT_GT(different, 5U);
}

}  // namespace
}  // namespace pq
