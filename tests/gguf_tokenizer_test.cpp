// Vocabularies of GGUF files against Hugging Face `tokenizers`: what io makes of the file, and tokenizer reads.

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/json.h"
#include "io/gguf_file.h"
#include "io/gguf_metadata.h"
#include "io/gguf_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace pq {
namespace {

using Ids = std::vector<std::int32_t>;

const std::filesystem::path goldens = std::filesystem::path(PQ_SOURCE_DIR) / "tests/goldens/gguf_tokenizers";

void expect_cases(const Tokenizer& tokenizer, const Json& cases) {
  ASSERT_GT(cases.size(), 100U);
  for (const Json& row : cases) {
    SCOPED_TRACE(row["text"].dump());
    const auto text = row["text"].get<std::string>();
    const auto special = row["ids_special"].get<Ids>();
    EXPECT_EQ(tokenizer.encode(text, false), row["ids"].get<Ids>());
    EXPECT_EQ(tokenizer.encode(text, true), special);
    EXPECT_EQ(tokenizer.decode(special, false), row["decoded"].get<std::string>());
    EXPECT_EQ(tokenizer.decode(special, true), row["decoded_skip"].get<std::string>());
  }
}

class GgufTokenizer : public ::testing::TestWithParam<const char*> {
 protected:
  Json golden() const { return read_json_file(goldens / "cases.json")[GetParam()]; }
};

TEST_P(GgufTokenizer, TokenizerJsonGivesTheLibrarysIds) {
  const Json row = golden();
  expect_cases(Tokenizer::parse(row["tokenizer"].dump(), GetParam()), row["cases"]);
}

TEST_P(GgufTokenizer, VocabularyOfTheFileGivesTheLibrarysIds) {
  const io::GgufFile file(goldens / (std::string(GetParam()) + ".gguf"));
  expect_cases(Tokenizer::parse(io::gguf_tokenizer_json(io::GgufMetadata(file)), GetParam()), golden()["cases"]);
}

INSTANTIATE_TEST_SUITE_P(Families, GgufTokenizer,
                         ::testing::Values("qwen3", "phi-4-mini", "smollm3", "mistral-nemo", "granite", "olmo2",
                                           "gpt-2", "gemma", "llama-2"),
                         [](const auto& instance) {
                           std::string name = instance.param;
                           std::erase(name, '-');
                           return name;
                         });

}  // namespace
}  // namespace pq
