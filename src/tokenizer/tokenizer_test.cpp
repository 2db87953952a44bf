#include "tokenizer/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"

namespace pq {
namespace {

using Ids = std::vector<std::int32_t>;

const std::filesystem::path sample_directory = std::filesystem::path(PQ_SOURCE_DIR) / "examples/sample-model";

const Tokenizer& sample() {
  static const Tokenizer tokenizer = Tokenizer::load(sample_directory);
  return tokenizer;
}

/// A model directory that goes with the test.
class ModelDir {
 public:
  ModelDir()
      : path_(std::filesystem::path(testing::TempDir()) /
              testing::UnitTest::GetInstance()->current_test_info()->name()) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~ModelDir() { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const std::string& text) const { std::ofstream(path_ / name) << text; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

constexpr const char* small_file =
    R"({"added_tokens":[{"id":3,"content":"<s>","special":true},{"id":4,"content":"</s>","special":true}],
  "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})";

TEST(Tokenizer, SampleModelSpecialTokens) {
  EXPECT_EQ(sample().bos_id(), 1);
  EXPECT_EQ(sample().eos_id(), 2);
  EXPECT_TRUE(sample().adds_bos());
  EXPECT_EQ(sample().vocab_size(), 8192U);
  EXPECT_EQ(sample().id_of("<s>"), 1);
  EXPECT_EQ(sample().id_of("no such token"), std::nullopt);
  EXPECT_TRUE(sample().is_special(1));
  EXPECT_FALSE(sample().is_special(300));
  EXPECT_EQ(sample().encode("", true), Ids{1});
  EXPECT_TRUE(sample().encode("", false).empty());
}

TEST(Tokenizer, RoundTrips) {
  for (const std::string text :
       {"Once upon a time, there was a cat.", " two  spaces ", "tabs\tand\nlines\r\n", "naïve café — “quotes”",
        "日本語 한국어 🦙🇩🇪", "1234567890", "\x01\x7f", "a\u00a0b"}) {
    const Ids ids = sample().encode(text, true);
    EXPECT_EQ(sample().decode(ids, true), text);
    EXPECT_EQ(sample().decode(ids, false), "<s> " + text);
  }
}

TEST(Tokenizer, StreamEqualsDecodeAtEverySplit) {
  for (const std::string text : {"Hello world, 日本語 🦙 é!", "🦙", " ", "a\nb", "ក្រុម<s>ក្រុម"}) {
    for (const bool skip : {false, true}) {
      const Ids ids = sample().encode(text, true);
      for (std::size_t count = 0; count <= ids.size(); ++count) {
        const std::span<const std::int32_t> head(ids.data(), count);
        StreamDecoder stream(sample(), skip);
        std::string shown;
        for (const std::int32_t id : head) {
          shown += stream.push(id);
          EXPECT_EQ(shown.find("\uFFFD"), std::string::npos) << "an incomplete character was shown";
        }
        // Whole text: the same. Cut inside a character: the same up to it, then U+FFFD.
        const std::string whole = sample().decode(head, skip);
        EXPECT_TRUE(whole.starts_with(shown.substr(0, whole.find("\uFFFD"))));
        shown += stream.finish();
        if (whole.find("\uFFFD") == std::string::npos) {
          EXPECT_EQ(shown, whole);
        } else {
          EXPECT_NE(shown.find("\uFFFD"), std::string::npos);
        }
      }
    }
  }
}

TEST(Tokenizer, StreamShowsByteTokensAsSoonAsACharacterIsWhole) {
  StreamDecoder stream(sample(), false);
  EXPECT_EQ(stream.push(*sample().id_of("<0xF0>")), "");
  EXPECT_EQ(stream.push(*sample().id_of("<0x9F>")), "");
  EXPECT_EQ(stream.push(*sample().id_of("<0xA6>")), "");
  EXPECT_EQ(stream.push(*sample().id_of("<0x99>")), "\U0001F999");
  EXPECT_EQ(stream.push(*sample().id_of("<0xC3>")), "");
  EXPECT_EQ(stream.finish(), "\uFFFD");
}

TEST(Tokenizer, TokenTextIsPrintable) {
  EXPECT_EQ(sample().token_text(*sample().id_of("<0x0A>")), "\\n");
  EXPECT_EQ(sample().token_text(*sample().id_of("<0xF0>")), "\\xF0");
  EXPECT_EQ(sample().token_text(*sample().id_of("▁the")), " the");
  EXPECT_EQ(sample().token_text(1), "<s>");
  EXPECT_EQ(sample().token_text(-1), "<id -1>");
  EXPECT_EQ(sample().token_text(1 << 30), "<id 1073741824>");
}

TEST(Tokenizer, TextThatIsNotUtf8NamesTheByte) {
  for (const auto& [text, at] : {std::pair<std::string, int>{"ab\xff", 2},
                                 {"é\xc3", 2},
                                 {"\xed\xa0\x80", 0},
                                 {"a\xc0\x80", 1},
                                 {"\xf4\x90\x80\x80", 0}}) {
    try {
      sample().encode(text, false);
      FAIL() << "no error";
    } catch (const InputError& error) {
      EXPECT_STREQ(error.what(),
                   ("text: byte " + std::to_string(at) + " is not valid UTF-8; convert the text to UTF-8").c_str());
    }
  }
}

TEST(Tokenizer, NoTokenizerJson) {
  const ModelDir dir;
  try {
    Tokenizer::load(dir.path());
    FAIL() << "no error";
  } catch (const InputError& error) {
    EXPECT_THAT(error.what(),
                testing::HasSubstr("tokenizer.json: there is no such file; copy the model's tokenizer.json there"));
  }
}

TEST(Tokenizer, SpecialTokensOfTheDirectory) {
  const ModelDir dir;
  dir.write("tokenizer.json", small_file);
  EXPECT_EQ(Tokenizer::load(dir.path()).bos_id(), std::nullopt);
  dir.write("generation_config.json", R"({"bos_token_id":0,"eos_token_id":[1,2]})");
  EXPECT_EQ(Tokenizer::load(dir.path()).bos_id(), 0);
  EXPECT_EQ(Tokenizer::load(dir.path()).eos_id(), 1);
  dir.write("special_tokens_map.json", R"({"bos_token":{"content":"<s>"},"eos_token":"</s>"})");
  EXPECT_EQ(Tokenizer::load(dir.path()).bos_id(), 3);
  EXPECT_EQ(Tokenizer::load(dir.path()).eos_id(), 4);
  dir.write(
      "tokenizer_config.json",
      R"({"bos_token":null,"eos_token":{"content":"ab"},"chat_template":[{"name":"tools","template":"x"},{"name":"default","template":"{{ y }}"}]})");
  const Tokenizer tokenizer = Tokenizer::load(dir.path());
  EXPECT_EQ(tokenizer.bos_id(), std::nullopt);
  EXPECT_EQ(tokenizer.eos_id(), 2);
  EXPECT_FALSE(tokenizer.adds_bos());
  EXPECT_EQ(tokenizer.chat_template(), "{{ y }}");
  dir.write("chat_template.jinja", "{{ z }}");
  EXPECT_EQ(Tokenizer::load(dir.path()).chat_template(), "{{ z }}");
  dir.write("tokenizer_config.json", R"({"bos_token":"<bos>"})");
  EXPECT_THROW(Tokenizer::load(dir.path()), FormatError);
}

// TinyLlama's file parts tokens that hold spaces themselves by a space, too.
TEST(Tokenizer, MergeLinesWithSeveralSpaces) {
  const auto parse = [](const std::string& vocab, const std::string& merge) {
    return Tokenizer::parse(R"({"model":{"type":"BPE","vocab":{)" + vocab + R"(},"merges":[")" + merge + "\"]}}", "t");
  };
  EXPECT_EQ(parse(R"(" ":0,"  ":1)", "   ").encode("  ", false), Ids{1});
  EXPECT_EQ(parse(R"("a":0," ":1,"a ":2)", "a  ").encode("a ", false), Ids{2});
  EXPECT_THROW(parse(R"("a":0," ":1)", "a  "), FormatError);
}

TEST(Tokenizer, LongWordOfOneLetter) {
  const Tokenizer tokenizer =
      Tokenizer::parse(R"({"model":{"type":"BPE","vocab":{"a":0,"aa":1,"aaaa":2},"merges":["a a","aa aa"]}})", "t");
  const Ids ids = tokenizer.encode(std::string(1'000'003, 'a'), false);
  ASSERT_EQ(ids.size(), 250'002U);
  EXPECT_EQ(ids.front(), 2);
  EXPECT_EQ(ids[ids.size() - 2], 1);
  EXPECT_EQ(ids.back(), 0);
}

}  // namespace
}  // namespace pq
