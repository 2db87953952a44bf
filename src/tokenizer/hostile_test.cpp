#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <ctime>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "base/error.h"
#include "base/files.h"
#include "tokenizer/tokenizer.h"

namespace pq {
namespace {

using Json = nlohmann::json;

constexpr const char* small_file =
    R"({"version":"1.0","model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}})";

struct Fault {
  const char* patch;    // merged into small_file (JSON merge patch)
  const char* message;  // part of what the error says
};

template <typename E>
void expect_error(const std::string& text, const std::string& message) {
  try {
    Tokenizer::parse(text, "dir/tokenizer.json");
    ADD_FAILURE() << "accepted: " << text.substr(0, 300);
  } catch (const E& error) {
    EXPECT_THAT(error.what(), testing::StartsWith("dir/tokenizer.json: "));
    EXPECT_THAT(error.what(), testing::HasSubstr(message)) << text.substr(0, 300);
  }
}

std::string patched(const char* patch) {
  Json json = Json::parse(small_file);
  json.merge_patch(Json::parse(patch));
  return json.dump();
}

TEST(HostileTokenizer, UnsupportedPartsAreNamed) {
  for (
      const Fault& fault : {
          Fault{R"({"model":{"type":"Unigram","vocab":[["a",-1.5]]}})",
                "model type 'Unigram' is not supported; only BPE is"},
          Fault{R"({"model":{"type":"WordPiece"}})", "model type 'WordPiece' is not supported"},
          Fault{R"({"model":{"dropout":0.1}})", "dropout is not supported"},
          Fault{R"({"model":{"end_of_word_suffix":"</w>"}})", "end_of_word_suffix is not supported"},
          Fault{R"({"model":{"continuing_subword_prefix":"##"}})", "continuing_subword_prefix is not supported"},
          Fault{R"({"version":"2.0"})", "version '2.0' is not supported"},
          Fault{R"({"normalizer":{"type":"BertNormalizer"}})",
                "normalizer: normalizer type 'BertNormalizer' is not supported; only"},
          Fault{R"({"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"UnicodeScripts"}]}})",
                "pre_tokenizer.pretokenizers[0]: pre_tokenizer type 'UnicodeScripts' is not supported"},
          Fault{R"({"decoder":{"type":"WordPiece"}})", "decoder type 'WordPiece' is not supported"},
          Fault{R"({"post_processor":{"type":"Other"}})", "post_processor type 'Other' is not supported"},
          Fault{R"({"pre_tokenizer":{"type":"UnicodeScripts"}})",
                "pre_tokenizer type 'UnicodeScripts' is not supported"},
          Fault{R"({"normalizer":{"type":"Precompiled"}})", "normalizer type 'Precompiled' is not supported"},
          Fault{R"({"pre_tokenizer":{"type":"FixedLength","length":0}})", "FixedLength with a length of 0"},
          Fault{R"({"pre_tokenizer":{"type":"Punctuation","behavior":"isolated"}})", "behavior 'isolated'"},
          Fault{
              R"({"post_processor":{"type":"TemplateProcessing","single":[{"Sequence":{"id":"A"}},{"Sequence":{"id":"A"}}]}})",
              "exactly once"},
          Fault{R"({"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Sideways"}})",
                "behavior 'Sideways'"},
          Fault{R"({"pre_tokenizer":{"type":"Split","pattern":{"Regex":"\\h+"},"behavior":"Isolated"}})",
                "regex '\\h+': the escape \\h is not supported"},
      }) {
    expect_error<UnsupportedError>(patched(fault.patch), fault.message);
  }
}

TEST(HostileTokenizer, WhatChangesNoTokenIsIgnored) {
  const auto ids = Tokenizer::parse(small_file, "x").encode("abba", true);
  for (const char* patch :
       {R"({"truncation":{"direction":"Right","max_length":1,"strategy":"LongestFirst","stride":0}})",
        R"({"padding":{"strategy":{"Fixed":9},"direction":"Right","pad_id":0,"pad_token":"a"}})",
        R"({"truncation":5,"padding":{}})", R"({"model":{"dropout":0.0}})"}) {
    EXPECT_EQ(Tokenizer::parse(patched(patch), "x").encode("abba", true), ids) << patch;
  }
  std::string text = patched(R"({"truncation":{"max_length":1}})");
  const std::string_view number = "\"max_length\":1";
  text.replace(text.find(number), number.size(), "\"max_length\":Infinity");
  EXPECT_EQ(Tokenizer::parse(text, "x").encode("abba", true), ids);
}

TEST(HostileTokenizer, DamageIsNamed) {
  for (
      const Fault& fault : {
          Fault{R"({"model":null})", "model is missing"},
          Fault{R"({"model":[1]})", "model is array, not an object"},
          Fault{R"({"model":{"vocab":null}})", "model.vocab is missing or is not an object"},
          Fault{R"({"model":{"vocab":[]}})", "model.vocab is missing or is not an object"},
          Fault{R"({"model":{"merges":{}}})", "model.merges is missing or is not an array"},
          Fault{R"({"model":{"vocab":{"a":-1}}})", "the id of token 'a' in model.vocab is not a whole number"},
          Fault{R"({"model":{"vocab":{"a":1.0}}})", "the id of token 'a' in model.vocab is not a whole number"},
          Fault{R"({"model":{"vocab":{"a":{"b":[1]}}}})", "the id of token 'a' in model.vocab is not a number"},
          Fault{R"({"model":{"vocab":{"a":1}}})", "id 1 belongs to two tokens in model.vocab"},
          Fault{R"({"model":{"vocab":{"a":4294967295}}})",
                "id 4294967295 of token 'a' in model.vocab is not below 4194304"},
          Fault{R"({"model":{"merges":["a"]}})", "entry 0 of model.merges, 'a', is not two tokens"},
          Fault{R"({"model":{"merges":["a b c"]}})", "can be read in 0 ways"},
          Fault{R"({"model":{"merges":["a x"]}})", "entry 0 of model.merges needs the token 'x'"},
          Fault{R"({"model":{"merges":["b a"]}})", "entry 0 of model.merges needs the token 'ba'"},
          Fault{R"({"model":{"merges":[["a","b","c"]]}})", "has 3 parts instead of 2"},
          Fault{R"({"model":{"merges":[["a",["b"]]]}})", "not a pair of strings"},
          Fault{R"({"model":{"merges":[7]}})", "not a pair of strings"},
          Fault{R"({"model":{"fuse_unk":"yes"}})", "model.fuse_unk is string, not true or false"},
          Fault{R"({"model":{"unk_token":5}})", "model.unk_token is number, not a string"},
          Fault{R"({"added_tokens":[{"id":7,"content":"<s>"}]})", "added_tokens[0].id is 7, but '<s>' has id 3"},
          Fault{R"({"added_tokens":[{"id":-3,"content":"<s>"}]})", "added_tokens[0].id is -3, not a whole number"},
          Fault{R"({"added_tokens":[{"id":99999999999,"content":"<s>"}]})", "not a whole number from 0 to 4194303"},
          Fault{R"({"added_tokens":[{"id":3,"content":"x"},{"id":3,"content":"x"}]})", "'x' stands twice"},
          Fault{R"({"added_tokens":[{"content":"x"}]})", "added_tokens[0].id is missing"},
          Fault{R"({"added_tokens":[5]})", "added_tokens[0] is number, not an object"},
          Fault{R"({"added_tokens":{"a":1}})", "added_tokens is object, not an array"},
          Fault{R"({"normalizer":{"type":"Replace","pattern":{"Regex":"(a"},"content":""}})",
                "regex '(a' is invalid: missing closing parenthesis"},
          Fault{R"({"normalizer":{"type":"Replace","pattern":{"Regex":"[a"},"content":""}})",
                "regex '[a' is invalid: missing ']'"},
          Fault{R"({"normalizer":{"prepend":"x"}})", "normalizer.type is missing"},
          Fault{R"({"pre_tokenizer":{"type":"Metaspace","replacement":"ab"}})",
                "pre_tokenizer.replacement is 'ab', not one character"},
          Fault{R"({"pre_tokenizer":{"type":"Metaspace","replacement":"_","prepend_scheme":"last"}})",
                "is 'last', not always, first or never"},
          Fault{R"({"decoder":{"type":"Strip","content":" ","start":-1,"stop":0}})",
                "decoder.start is -1, not a whole number"},
          Fault{
              R"({"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"S"}},{"Sequence":{"id":"A"}}],"special_tokens":{"S":{"ids":[3]}}}})",
              "special_tokens.S.ids is 3, not a whole number from 0 to 2"},
      }) {
    expect_error<FormatError>(patched(fault.patch), fault.message);
  }
  expect_error<FormatError>(R"({"model":{"vocab":{"a":0,"a":1},"merges":[]}})", "token 'a' stands twice");
  expect_error<FormatError>("", "is not valid JSON");
  expect_error<FormatError>("[]", "the file is array, not an object");
  expect_error<FormatError>(std::string(small_file).substr(0, 60), "is not valid JSON (at byte 61)");
  expect_error<FormatError>("{\"a\":" + std::string(100'000, '['), "nested deeper than 64 levels");
  expect_error<FormatError>("{\"model\":{\"vocab\":{\"a\":" + std::string(100'000, '['),
                            "nested deeper than 64 levels");
}

TEST(HostileTokenizer, EveryTruncationGivesAnError) {
  const std::string text = Json::parse(read_text_file(std::filesystem::path(PQ_SOURCE_DIR) /
                                                      "tests/goldens/tokenizer/variants.json"))[3]["tokenizer"]
                               .dump();
  for (std::size_t length = 0; length < text.size(); length += 7) {
    EXPECT_THROW(Tokenizer::parse(text.substr(0, length), "t"), Error) << length;
  }
}

TEST(HostileTokenizer, StepsThatBlowATextUp) {
  Json json = Json::parse(small_file);
  Json steps = Json::array();
  for (int i = 0; i < 30; ++i)
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", "aaaaaaaa"}});
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", steps}};
  json["decoder"] = {{"type", "Sequence"}, {"decoders", steps}};
  const Tokenizer tokenizer = Tokenizer::parse(json.dump(), "t");
  EXPECT_THROW(tokenizer.encode("a", false), UnsupportedError);
  EXPECT_THROW(tokenizer.decode(std::vector<std::int32_t>{0}, false), UnsupportedError);
  EXPECT_THROW(tokenizer.token_text(0), UnsupportedError);
  Json levels = Json::array();
  for (int i = 0; i < 30; ++i) levels.push_back({{"type", "ByteLevel"}, {"use_regex", false}});
  json = Json::parse(small_file);
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", levels}};
  EXPECT_THROW(Tokenizer::parse(json.dump(), "t").encode("\u00e9", false), UnsupportedError);
}

TEST(HostileTokenizer, RegexThatNeverEnds) {
  Json json = Json::parse(small_file);
  json["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "(a+)+$"}}}, {"behavior", "Isolated"}, {"invert", false}};
  const Tokenizer tokenizer = Tokenizer::parse(json.dump(), "t");
  const auto start = std::chrono::steady_clock::now();
  try {
    tokenizer.encode(std::string(5000, 'a') + "b", false);
    ADD_FAILURE() << "no error";
  } catch (const UnsupportedError& error) {
    EXPECT_THAT(error.what(), testing::HasSubstr("regex '(a+)+$' cannot be matched: match limit exceeded"));
  }
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(20));
}

/// A million of one character is what a broken file or a bad scan gives.
TEST(HostileTokenizer, AMillionOfOneCharacterIsTokenized) {
  const std::string patterns[] = {
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      R"('s|'t| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
      R"((?:\s|\S)+)",
      "",
  };
  Json json =
      Json::parse(read_text_file(std::filesystem::path(PQ_SOURCE_DIR) / "examples/sample-model/tokenizer.json"));
  json["normalizer"] = nullptr;
  json["decoder"] = {{"type", "Sequence"}, {"decoders", {{{"type", "ByteFallback"}}, {{"type", "Fuse"}}}}};
  for (const std::string& pattern : patterns) {
    json["pre_tokenizer"] = {
        {"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
    if (pattern.empty()) json["pre_tokenizer"] = nullptr;
    const Tokenizer tokenizer = Tokenizer::parse(json.dump(), "t");
    for (const std::string character :
         {" ", "\t", "\n", "\u00a0", "a", "A", "7", "!", "-", "'", "\u4e2d", "\u0301", "\U0001F999"}) {
      std::string text;
      for (int i = 0; i < 1'000'000; ++i) text += character;
      text += 'x';
      const std::clock_t start = std::clock();
      EXPECT_TRUE(tokenizer.decode(tokenizer.encode(text, false), false) == text) << pattern << " on " << character;
      EXPECT_LT((std::clock() - start) / CLOCKS_PER_SEC, 20) << pattern << " on " << character;
    }
  }
}

TEST(HostileTokenizer, UnknownCharacterWithoutItsToken) {
  const Tokenizer tokenizer = Tokenizer::parse(patched(R"({"model":{"unk_token":"<unk>"}})"), "t");
  EXPECT_EQ(tokenizer.encode("ab", false), std::vector<std::int32_t>{2});
  EXPECT_THROW(tokenizer.encode("x", false), FormatError);
}

}  // namespace
}  // namespace pq
