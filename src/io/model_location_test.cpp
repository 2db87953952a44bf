#include <gmock/gmock.h>

#include <array>
#include <chrono>
#include <cstdlib>

#include "io/hf_checkpoint.h"
#include "io/hf_config.h"
#include "io/test_files.h"

namespace pq::io {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::small_config;
using testing::TemporaryDirectory;
using testing::write_bytes;
using testing::write_checkpoint;

std::string resolve_error(const std::string& model) {
  return message_of<InputError>([&] { resolve_model(model); });
}

/// The places of the Hugging Face cache, pointed at a temporary directory.
class HubCache : public ::testing::Test {
 protected:
  static constexpr std::array variables{"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "HOME"};
  void SetUp() override {
    for (const char* name : variables) {
      const char* value = std::getenv(name);
      saved_.push_back(value == nullptr ? "" : value);
      ::unsetenv(name);
    }
  }
  void TearDown() override {
    for (std::size_t i = 0; i < variables.size(); ++i) {
      if (saved_[i].empty()) {
        ::unsetenv(variables[i]);
      } else {
        ::setenv(variables[i], saved_[i].c_str(), 1);
      }
    }
  }
  void add_snapshot(const fs::path& cache, const std::string& revision) const {
    write_bytes(cache / "models--some-org--Some.Name_7B" / "snapshots" / revision / "config.json", "{}");
  }
  const std::string model_ = "some-org/Some.Name_7B";
  TemporaryDirectory directory_;
  std::vector<std::string> saved_;
};

TEST_F(HubCache, FindsTheModelInEveryPlace) {
  const auto& root = directory_.path();
  ::setenv("HOME", root.c_str(), 1);
  const auto found = [&] { return resolve_model(model_).filename().string(); };
  add_snapshot(root / ".cache/huggingface/hub", "home");
  EXPECT_EQ(found(), "home");
  add_snapshot(root / "xdg/huggingface/hub", "xdg");
  ::setenv("XDG_CACHE_HOME", (root / "xdg").c_str(), 1);
  EXPECT_EQ(found(), "xdg");
  add_snapshot(root / "hf/hub", "hf");
  ::setenv("HF_HOME", (root / "hf").c_str(), 1);
  EXPECT_EQ(found(), "hf");
  add_snapshot(root / "own", "own");
  ::setenv("HF_HUB_CACHE", (root / "own").c_str(), 1);
  EXPECT_EQ(found(), "own");
}

TEST_F(HubCache, RefsMainGoesBeforeTheNewest) {
  const auto& root = directory_.path();
  ::setenv("HF_HUB_CACHE", root.c_str(), 1);
  const fs::path repository = root / "models--some-org--Some.Name_7B";
  add_snapshot(root, "aaa");
  add_snapshot(root, "bbb");
  fs::last_write_time(repository / "snapshots" / "aaa", fs::file_time_type::clock::now() + std::chrono::hours(1));
  EXPECT_EQ(resolve_model(model_).filename(), "aaa");
  write_bytes(repository / "refs" / "main", "bbb\n");
  EXPECT_EQ(resolve_model(model_).filename(), "bbb");
  write_bytes(repository / "refs" / "main", "../../elsewhere");
  EXPECT_EQ(resolve_model(model_).filename(), "aaa");
}

TEST_F(HubCache, NamesTheModelByItsRepository) {
  ::setenv("HF_HUB_CACHE", directory_.path().c_str(), 1);
  add_snapshot(directory_.path(), "0123abcd");
  const Json config = small_config();
  write_checkpoint(resolve_model(model_), config, required_tensors(parse_config(config, "config")));
  EXPECT_EQ(HfCheckpoint::open(model_).name(), model_);
}

TEST_F(HubCache, SaysWhereItLookedAndHowToGetIt) {
  ::setenv("HF_HUB_CACHE", "/nowhere/cache", 1);
  EXPECT_THAT(resolve_error(model_), AllOf(HasSubstr("/nowhere/cache"), HasSubstr("nothing is downloaded"),
                                           HasSubstr("hf download some-org/Some.Name_7B")));
  EXPECT_THAT(resolve_error("./no/such/place"), HasSubstr("no such directory"));
  EXPECT_THAT(resolve_error("../not there"), HasSubstr("no such directory"));
  EXPECT_THAT(resolve_error(""), HasSubstr("empty"));
}

TEST_F(HubCache, TheSnapshotIsSaidOnce) {
  ::setenv("HF_HUB_CACHE", directory_.path().c_str(), 1);
  const std::string model = "some-org/Said";
  write_bytes(directory_.path() / "models--some-org--Said" / "snapshots" / "0123abcd" / "config.json", "{}");
  const auto lines = [&] {
    ::testing::internal::CaptureStderr();
    resolve_model(model);
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_THAT(lines(), AllOf(HasSubstr("some-org/Said: snapshot "), HasSubstr("0123abcd")));
  EXPECT_EQ(lines(), "");
}

TEST_F(HubCache, ARevisionIsABranchATagOrACommit) {
  const auto& root = directory_.path();
  ::setenv("HF_HUB_CACHE", root.c_str(), 1);
  const fs::path repository = root / "models--some-org--Some.Name_7B";
  add_snapshot(root, "0123aaaa");
  add_snapshot(root, "0123bbbb");
  add_snapshot(root, "4567cccc");
  write_bytes(repository / "refs" / "main", "0123aaaa");
  write_bytes(repository / "refs" / "v1.0", "4567cccc\n");
  write_bytes(repository / "refs" / "pr" / "7", "0123bbbb");
  const auto found = [&](const std::string& revision) {
    return resolve_model(model_ + "@" + revision).filename().string();
  };
  EXPECT_EQ(resolve_model(model_).filename(), "0123aaaa");
  EXPECT_EQ(found("main"), "0123aaaa");
  EXPECT_EQ(found("v1.0"), "4567cccc");
  EXPECT_EQ(found("pr/7"), "0123bbbb");
  EXPECT_EQ(found("0123bbbb"), "0123bbbb");
  EXPECT_EQ(found("0123b"), "0123bbbb");
  EXPECT_THAT(resolve_error(model_ + "@0123"), HasSubstr("fits 2 snapshots"));
  EXPECT_THAT(resolve_error(model_ + "@v2"),
              AllOf(HasSubstr("has other revisions of it only (0123aaaa, 0123bbbb, 4567cccc)"),
                    HasSubstr("hf download some-org/Some.Name_7B --revision v2")));
  for (const char* revision : {"", "../not there", "a b", "a..b", ".hidden"}) {
    EXPECT_THAT(resolve_error(model_ + "@" + revision), HasSubstr("there is no such directory or file")) << revision;
  }
}

TEST_F(HubCache, AnIncompleteDownloadIsNamedSo) {
  ::setenv("HF_HUB_CACHE", directory_.path().c_str(), 1);
  const fs::path repository = directory_.path() / "models--some-org--Some.Name_7B";
  write_bytes(repository / "blobs" / "77.incomplete", "x");
  EXPECT_THAT(resolve_error(model_), AllOf(HasSubstr("its download is incomplete"), HasSubstr("77.incomplete"),
                                           HasSubstr("finish it with: hf download some-org/Some.Name_7B")));
  add_snapshot(directory_.path(), "aaa");
  EXPECT_THAT(message_of<InputError>([&] { HfCheckpoint::open(model_); }),
              AllOf(HasSubstr("download is incomplete"), HasSubstr("hf download some-org/Some.Name_7B")));
}

TEST(ModelLocation, AFileThatIsNoModelIsNamed) {
  const TemporaryDirectory directory;
  const auto error = [&](const char* name, std::string_view bytes) {
    write_bytes(directory.path() / name, bytes);
    return resolve_error((directory.path() / name).string());
  };
  EXPECT_THAT(error("a.safetensors", testing::raw_safetensors("{}", "")), HasSubstr("is a safetensors file"));
  EXPECT_THAT(error("pytorch_model.bin", std::string_view("PK\3\4\0\0", 6)), HasSubstr("is a zip archive (as PyTorch"));
  EXPECT_THAT(error("notes", "some text"), HasSubstr("is neither a directory nor a GGUF file"));
  EXPECT_THAT(resolve_error((directory.path() / "no.gguf").string()), HasSubstr("no.gguf: no such file"));
  fs::create_symlink("nowhere", directory.path() / "link");
  EXPECT_THAT(resolve_error((directory.path() / "link").string()), HasSubstr("is a link to"));
  write_bytes(directory.path() / "lfs.gguf", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n");
  EXPECT_THAT(message_of<InputError>([&] { HfCheckpoint::open((directory.path() / "lfs.gguf").string()); }),
              HasSubstr("is a Git LFS pointer"));
}

}  // namespace
}  // namespace pq::io
