#include "text/documents.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include <fstream>
#include <string>
#include <vector>

#include "base/error.h"

namespace pq {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;
using Texts = std::vector<std::string>;

class DocumentsTest : public testing::Test {
 protected:
  void SetUp() override {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  fs::path write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
    return folder_ / name;
  }
  template <typename E>
  std::string error(const std::string& name, const std::string& text) const {
    const fs::path path = write(name, text);
    try {
      read_documents(path);
    } catch (const E& caught) {
      return caught.what();
    }
    return "none";
  }

  const fs::path folder_ = fs::path(testing::TempDir()) / "pq_documents";
  const std::string lines_ = "{\"text\": \"one\"}\n\n{\"other\": NaN, \"text\": \"two\"}\r\n";
  const Texts two_{"one", "two"};
};

TEST_F(DocumentsTest, ReadsTextJsonlAndGzip) {
  EXPECT_EQ(read_documents(write("a.txt", "one\ntwo")), Texts{"one\ntwo"});
  EXPECT_EQ(read_documents(write("a.jsonl", lines_)), two_);
  const fs::path zipped = folder_ / "b.JSONL.GZ";
  gzFile file = gzopen(zipped.c_str(), "wb");
  gzwrite(file, lines_.data(), static_cast<unsigned>(lines_.size()));
  gzclose(file);
  EXPECT_EQ(read_documents(zipped), two_);
}

// Whatever it is called, JSON is no prose.
TEST_F(DocumentsTest, ContentDecidesWhatAFileIs) {
  for (const char* name : {"a.JSONL", "a.ndjson", "a.NDJSON", "a.json", "a.Json", "a", "a.data", "63"}) {
    EXPECT_EQ(read_documents(write(name, lines_)), two_) << name;
  }
  for (const char* json :
       {R"([{"text": "one"}, {"text": "two", "id": 3}])", R"(["one", "two"])", R"({"text": ["one", "two"]})",
        "[\n  {\n    \"text\": \"one\"\n  },\n  {\"text\": \"two\"}\n]\n", "{\n  \"text\": [\"one\",\n \"two\"]}\n",
        "\xef\xbb\xbf[\"one\", \"two\"]"}) {
    EXPECT_EQ(read_documents(write("b.json", json)), two_) << json;
    EXPECT_EQ(read_documents(write("b", json)), two_) << json;
  }
  EXPECT_EQ(read_documents(write("c.json", R"({"text": "one"})")), Texts{"one"});
  EXPECT_EQ(read_documents(write("c.jsonl", R"({"text": "one"})")), Texts{"one"});
  for (const char* prose : {"[1] A footnote.", "{curly} text", "[a, b]", "\"quoted\" text", "{", "[ {"}) {
    EXPECT_EQ(read_documents(write("d", prose)), Texts{prose});
  }
  testing::internal::CaptureStderr();
  EXPECT_EQ(read_documents(write("d.txt", lines_)), Texts{lines_});
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("d.txt: looks like JSON and is taken as plain text"));
}

TEST_F(DocumentsTest, WhatIsNoTextIsRefusedByName) {
  EXPECT_THAT(error<FormatError>("e.json", "The quick brown fox"), HasSubstr("e.json: is not valid JSON"));
  EXPECT_THAT(error<FormatError>("e.json", R"({"prompt": "a"})"),
              HasSubstr("e.json: is JSON without the strings 'text'"));
  EXPECT_THAT(error<FormatError>("e.json", R"([{"text": "a"}, {"body": "b"}])"), HasSubstr("is JSON without"));
  EXPECT_THAT(error<FormatError>("e", R"({"messages": []})"), HasSubstr("is JSON without"));
  EXPECT_THAT(error<FormatError>("e.jsonl", "{\"text\": \"a\"}\n{\"body\": \"b\"}\n"),
              HasSubstr("e.jsonl, line 2: has no string field 'text'"));
  EXPECT_THAT(error<FormatError>("e.json", "{\"text\": \"a\"}\n{\"body\": \"b\"}\n"),
              HasSubstr("e.json, line 2: has no"));
  EXPECT_THAT(error<FormatError>("e.jsonl", "{\"text\": \"a\"}\n{\"text\": \n"),
              HasSubstr("line 2: is not valid JSON"));
  EXPECT_THAT(error<InputError>("e.html", "<p>text</p>"), HasSubstr("e.html: is markup, not a text"));
  EXPECT_THAT(error<InputError>("e.parquet", "PAR1 but text"), HasSubstr("e.parquet: is no text, by its name"));
  EXPECT_THAT(error<InputError>("e.csv", "text,label\na,1\n"), HasSubstr("e.csv: is a table, not a text"));
  EXPECT_THAT(error<InputError>("e.txt", "PAR1\0\xff"s), HasSubstr("e.txt: is a Parquet file"));
  EXPECT_THAT(error<InputError>("e.txt", ""), HasSubstr("e.txt: the calibration text is empty"));
  EXPECT_THAT(error<InputError>("e.json", " \n"), HasSubstr("is empty"));
  EXPECT_THAT(error<InputError>("e.jsonl", "{\"text\": \" \\n\"}\n"), HasSubstr("is empty"));
  EXPECT_THROW(read_documents("/nowhere/at/all.txt"), InputError);
}

TEST_F(DocumentsTest, TextThatIsNotUtf8NamesFileLineAndByte) {
  EXPECT_THAT(error<InputError>("f.txt", "caf\xe9"), HasSubstr("f.txt: byte 3 is not valid UTF-8"));
  EXPECT_THAT(error<InputError>("f.txt", "one\ntwo\ncaf\xe9\n"), HasSubstr("f.txt, line 3: byte 3 is not valid UTF-8"));
  EXPECT_THAT(error<InputError>("f.txt", "one\n\xe9"), HasSubstr("f.txt, line 2: byte 0 is not"));
  EXPECT_THAT(error<InputError>("f.jsonl", "{\"text\": \"a\"}\n{\"text\": \"\xe9\"}\n"),
              HasSubstr("f.jsonl, line 2: byte 10 is not"));
}

TEST_F(DocumentsTest, OfADirectoryEveryTextCounts) {
  EXPECT_THAT([&] { read_documents(folder_); }, ThrowsMessage<InputError>(HasSubstr("holds no .txt or .jsonl file;")));
  write("c.parquet", "PAR1");
  EXPECT_THAT([&] { read_documents(folder_); }, ThrowsMessage<InputError>(HasSubstr("file (but .parquet)")));
  write("b.JSONL", lines_);
  write("a.txt", "zero");
  write("ignored.md", "nothing");
  write(".hidden.txt", "\xff");
  write("._a.txt", "\0\5\x16\7\0Mac OS X"s);
  fs::create_directories(folder_ / "folder.txt");
  EXPECT_EQ(read_documents(folder_), (Texts{"zero", "one", "two"}));
  write("bad.txt", "one\ncaf\xe9");
  EXPECT_THAT([&] { read_documents(folder_); }, ThrowsMessage<InputError>(HasSubstr("bad.txt, line 2: byte 3")));
  fs::remove(folder_ / "bad.txt");
  fs::create_symlink("nowhere", folder_ / "d.txt");
  EXPECT_THAT([&] { read_documents(folder_); }, ThrowsMessage<InputError>(HasSubstr("d.txt: is a link to")));
}

}  // namespace
}  // namespace pq
