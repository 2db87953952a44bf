#include "base/file_kind.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "base/text_files.h"

namespace pq {
namespace {

namespace fs = std::filesystem;
using namespace std::string_literals;
using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

const std::string lfs_pointer =
    "version https://git-lfs.github.com/spec/v1\noid sha256:" + std::string(64, 'a') + "\nsize 4976698672\n";

fs::path fresh_directory(const std::string& name) {
  const fs::path path = fs::path(testing::TempDir()) / name;
  fs::remove_all(path);
  fs::create_directories(path);
  return path;
}

std::string refusal(std::string_view content, FileKind expected, const fs::path& path = "dir/file") {
  try {
    check_file_kind(path, std::as_bytes(std::span(content)), expected);
  } catch (const InputError& error) {
    return error.what();
  }
  return "none";
}

std::string missing(const fs::path& path) {
  try {
    refuse_missing(path);
  } catch (const InputError& error) {
    return error.what();
  }
}

TEST(FileKind, AGitLfsPointerIsNamedByEveryReader) {
  for (const FileKind kind : {FileKind::text, FileKind::json, FileKind::safetensors, FileKind::gguf}) {
    EXPECT_THAT(refusal(lfs_pointer, kind), AllOf(StartsWith("dir/file: is a Git LFS pointer"),
                                                  HasSubstr("git lfs pull"), HasSubstr("hf download")));
  }
}

TEST(FileKind, OtherPointersToo) {
  EXPECT_THAT(refusal("/annex/objects/SHA256E-s5--aa\n", FileKind::safetensors), HasSubstr("is a git-annex pointer"));
  EXPECT_THAT(refusal("# xet version 0\nfilesize = 5\n", FileKind::gguf), HasSubstr("is a Xet pointer"));
}

TEST(FileKind, BinaryFormatsAreNamed) {
  const std::string noise = "\0\1\2\xff\xfe"s;
  const auto with = [&](const std::string& start) { return refusal(start + noise, FileKind::text); };
  EXPECT_THAT(with("PAR1"), HasSubstr("is a Parquet file, not plain text"));
  EXPECT_THAT(with("ARROW1"), HasSubstr("is an Arrow file"));
  EXPECT_THAT(with("\xff\xff\xff\xff"), HasSubstr("is an Arrow stream"));
  EXPECT_THAT(with("\x28\xb5\x2f\xfd"), HasSubstr("is compressed with zstd"));
  EXPECT_THAT(with("\xfd\x37zXZ\0"s), HasSubstr("is compressed with xz"));
  EXPECT_THAT(with("BZh9"), HasSubstr("is compressed with bzip2"));
  EXPECT_THAT(with("PK\x03\x04"), HasSubstr("is a zip archive"));
  EXPECT_THAT(with("7z\xbc\xaf\x27\x1c"), HasSubstr("is a 7z archive"));
  EXPECT_THAT(with(std::string(257, 'n') + "ustar"), HasSubstr("is a tar archive"));
  EXPECT_THAT(with("%PDF-1.7\n"), HasSubstr("is a PDF document"));
  EXPECT_THAT(with("\x93NUMPY"), HasSubstr("is a NumPy array"));
  EXPECT_THAT(with("\x89HDF\r\n\x1a\n"), HasSubstr("is an HDF5 file"));
  EXPECT_THAT(with("GGUF\3"), HasSubstr("is a GGUF model"));
  EXPECT_THAT(with("\xff\xfeH\0i\0"s), HasSubstr("is text in UTF-16, not plain text; convert it: iconv"));
  EXPECT_THAT(refusal("T\0h\0e\0 \0e\0n\0d\0.\0"s, FileKind::text), HasSubstr("is text in UTF-16"));
  EXPECT_THAT(refusal("\0T\0h\0e\0 \0e\0n\0d\0."s, FileKind::json), HasSubstr("is text in UTF-16"));
  EXPECT_THAT(with("\x80\2}q\0"s), HasSubstr("is a Python pickle"));
  EXPECT_THAT(with("\x10\0\0\0\0\0\0\0{\"a\""s), HasSubstr("is a safetensors file"));
  EXPECT_EQ(with("what nobody knows"), "none");
}

TEST(FileKind, TextIsTextWhateverItBeginsWith) {
  for (const char* text : {"", "PAR1 was the first", "ARROW1", "BZhang", "GGUF is a format", "ORCs", "%PDF- is how",
                           "<!DOCTYPE html><p>caf\xc3\xa9", "PKZIP", "Rar!"}) {
    EXPECT_EQ(refusal(text, FileKind::text), "none") << text;
  }
}

TEST(FileKind, ModelFilesAreOfTheirKind) {
  const std::string safetensors = "\x10\0\0\0\0\0\0\0{\"a\""s;
  EXPECT_EQ(refusal(safetensors, FileKind::safetensors), "none");
  // Headers of such lengths begin as pickles do.
  EXPECT_EQ(refusal("\x80\2\0\0\0\0\0\0{\"a\""s, FileKind::safetensors), "none");
  EXPECT_EQ(refusal("\x80\2\0\0\0\0\0\0?\"a\""s, FileKind::safetensors), "none");
  EXPECT_EQ(refusal("GGUF\3\0\0\0"s, FileKind::gguf), "none");
  EXPECT_EQ(refusal("{\"a\": 1}", FileKind::json), "none");
  EXPECT_THAT(refusal(safetensors, FileKind::gguf), HasSubstr("is a safetensors file, not a GGUF file"));
  EXPECT_THAT(refusal("GGUF\3\0\0\0"s, FileKind::safetensors), HasSubstr("is a GGUF model, not a safetensors file"));
  EXPECT_THAT(refusal("PK\x03\x04"s, FileKind::safetensors), HasSubstr("PyTorch"));
  for (const FileKind kind : {FileKind::json, FileKind::safetensors, FileKind::gguf}) {
    EXPECT_THAT(refusal("", kind), HasSubstr("dir/file: is empty; "));
    EXPECT_THAT(refusal("\n <!DOCTYPE html><html>", kind), HasSubstr("is a web page"));
    EXPECT_THAT(refusal("Entry not found", kind), HasSubstr("is an error message, not the file itself"));
    EXPECT_THAT(refusal(R"({"error":"Invalid credentials"})", kind), HasSubstr("hf auth login"));
    EXPECT_THAT(refusal(std::string(4096, '\0'), kind), HasSubstr("begins with nothing but zeros"));
  }
}

TEST(FileKind, AMissingFileSaysWhy) {
  const fs::path dir = fresh_directory("pq_missing");
  EXPECT_EQ(missing(dir / "config.json"), (dir / "config.json").string() + ": no such file; check the path");
  EXPECT_EQ(missing("-"), "-: no such file; name /dev/stdin to read standard input");
  std::ofstream(dir / "config.json.incomplete") << "x";
  EXPECT_THAT(missing(dir / "config.json"), HasSubstr("its download is incomplete"));

  const fs::path snapshot = dir / "models--some-org--some--name" / "snapshots" / "abc";
  const fs::path blobs = snapshot.parent_path().parent_path() / "blobs";
  fs::create_directories(snapshot);
  fs::create_directories(blobs);
  fs::create_symlink("../../blobs/0123", snapshot / "model.safetensors");
  EXPECT_FALSE(fs::exists(snapshot / "model.safetensors"));
  EXPECT_TRUE(exists_or_dangles(snapshot / "model.safetensors"));
  EXPECT_THAT(missing(snapshot / "model.safetensors"),
              AllOf(HasSubstr("is a link to "), HasSubstr("blobs/0123, which is not there"),
                    HasSubstr("hf download some-org/some--name --revision abc")));
  EXPECT_EQ(how_to_download(blobs / "0123"), "get it with: hf download some-org/some--name");
  EXPECT_EQ(how_to_download(snapshot), "get it with: hf download some-org/some--name --revision abc");
  EXPECT_EQ(hub_repository(snapshot / "model.safetensors"), "some-org/some--name");
  EXPECT_EQ(unfinished_download(snapshot), std::nullopt);
  std::ofstream(blobs / "0123.incomplete") << "x";
  EXPECT_THAT(missing(snapshot / "model.safetensors"), HasSubstr("its download is incomplete (0123.incomplete"));
  EXPECT_EQ(unfinished_download(snapshot)->filename(), "0123.incomplete");
  EXPECT_THROW(read_text_file(snapshot / "model.safetensors"), InputError);

  const fs::path local = dir / "local";
  fs::create_directories(local / ".cache" / "huggingface" / "download");
  std::ofstream(local / ".cache" / "huggingface" / "download" / "model.safetensors.ab.incomplete") << "x";
  EXPECT_THAT(missing(local / "model.safetensors"), HasSubstr("its download is incomplete"));
  EXPECT_THAT(missing(local / "config.json"), HasSubstr("no such file"));
}

TEST(FileKind, TheReadersOfTextAskForIt) {
  const fs::path dir = fresh_directory("pq_kinds");
  const auto error = [](const auto& read) -> std::string {
    try {
      read();
    } catch (const InputError& caught) {
      return caught.what();
    }
    return "none";
  };
  std::ofstream(dir / "a.json") << lfs_pointer;
  std::ofstream(dir / "b.json") << "<!doctype html>";
  std::ofstream(dir / "c.txt") << "PAR1\0\xff"s;
  fs::create_symlink("nowhere", dir / "d.json");
  EXPECT_THAT(error([&] { read_text_file(dir / "a.json"); }), HasSubstr("a.json: is a Git LFS pointer"));
  EXPECT_THAT(error([&] { read_json_file(dir / "b.json"); }), HasSubstr("b.json: is a web page"));
  EXPECT_THAT(error([&] { TextFiles(dir).read("b.json"); }), HasSubstr("b.json: is a web page"));
  EXPECT_THAT(error([&] { read_text_file(dir / "c.txt"); }), HasSubstr("c.txt: is a Parquet file"));
  EXPECT_TRUE(TextFiles(dir).has("d.json"));
  EXPECT_THAT(error([&] { TextFiles(dir).read("d.json"); }), HasSubstr("d.json: is a link to"));
  EXPECT_EQ(read_whole_file(dir / "c.txt"), "PAR1\0\xff"s);
}

}  // namespace
}  // namespace pq
