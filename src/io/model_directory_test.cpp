#include "io/model_directory.h"

#include <gmock/gmock.h>

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
using testing::write_random_tensors;

std::vector<TensorDeclaration> small_tensors() { return required_tensors(parse_config(small_config(), "config")); }

template <typename E>
std::string open_error(const fs::path& model) {
  return message_of<E>([&] { HfCheckpoint::open(model.string()); });
}

TEST(ModelDirectory, SaysWhichOtherFormatIsThere) {
  const TemporaryDirectory directory;
  const fs::path& path = directory.path();
  EXPECT_THAT(open_error<InputError>(path), HasSubstr("is empty; get it again"));
  write_bytes(path / "README.md", "x");
  EXPECT_THAT(open_error<InputError>(path), HasSubstr("there is neither config.json nor model.safetensors"));
  write_bytes(path / "config.json", small_config().dump());
  EXPECT_THAT(open_error<InputError>(path), HasSubstr("holds neither model.safetensors nor"));
  write_bytes(path / "odd.safetensors", "x");
  EXPECT_THAT(open_error<UnsupportedError>(path),
              AllOf(HasSubstr("safetensors under another name (odd.safetensors)"), HasSubstr("model.safetensors")));
  write_bytes(path / "pytorch_model-00001-of-00002.bin", "x");
  EXPECT_THAT(open_error<UnsupportedError>(path), AllOf(HasSubstr("PyTorch pickle"), HasSubstr("save_pretrained")));
  write_bytes(path / "model.gguf", "x");
  EXPECT_THAT(open_error<UnsupportedError>(path), AllOf(HasSubstr("GGUF"), HasSubstr("model.gguf")));
  EXPECT_THAT(open_error<FormatError>(path / "model.gguf"), HasSubstr("does not begin with 'GGUF'"));
}

TEST(ModelDirectory, AnAdapterAloneIsNoModel) {
  const TemporaryDirectory directory;
  write_bytes(directory.path() / "adapter_model.safetensors", "x");
  EXPECT_THAT(open_error<UnsupportedError>(directory.path()),
              AllOf(HasSubstr("holds an adapter, not a whole model"), HasSubstr("merge_and_unload")));
  write_bytes(directory.path() / "adapter_config.json", R"({"base_model_name_or_path": "org/base", "r": 8})");
  for (const auto& open : {+[](const std::string& model) { HfCheckpoint::open(model); },
                           +[](const std::string& model) { is_quantized_checkpoint(model); },
                           +[](const std::string& model) { model_texts(model); }}) {
    EXPECT_THAT(message_of<UnsupportedError>([&] { open(directory.path().string()); }),
                HasSubstr("holds an adapter for org/base, not a whole model (adapter_config.json)"));
  }
}

TEST(ModelDirectory, ADownloadThatDidNotEndIsNamedSo) {
  const TemporaryDirectory directory;
  const fs::path& path = directory.path();
  write_bytes(path / "config.json", small_config().dump());
  write_bytes(path / ".cache" / "huggingface" / "download" / "model.safetensors.a1.incomplete", "x");
  EXPECT_THAT(
      open_error<InputError>(path),
      AllOf(HasSubstr("download is incomplete (model.safetensors.a1.incomplete is there)"), HasSubstr("hf download")));
  fs::create_symlink("nowhere", path / "model.safetensors");
  EXPECT_THAT(open_error<InputError>(path), HasSubstr("model.safetensors: is a link to"));
  fs::remove(path / "config.json");
  EXPECT_THAT(open_error<InputError>(path), HasSubstr("config.json: is missing beside the weights"));
}

TEST(ModelDirectory, ShardsWithoutTheirIndexSayWhatTheyHold) {
  const TemporaryDirectory directory;
  const fs::path& path = directory.path();
  const auto tensors = small_tensors();
  const std::ptrdiff_t half = static_cast<std::ptrdiff_t>(tensors.size()) / 2;
  write_bytes(path / "config.json", small_config().dump());
  write_random_tensors(path / "model-00001-of-00002.safetensors", {tensors.begin(), tensors.begin() + half});
  EXPECT_THAT(open_error<InputError>(path), AllOf(HasSubstr("holds 1 of 2 shards and no model.safetensors.index.json"),
                                                  HasSubstr("model-00002-of-00002.safetensors")));
  write_random_tensors(path / "model-00002-of-00002.safetensors", {tensors.begin() + half, tensors.end()});
  ::testing::internal::CaptureStderr();
  EXPECT_EQ(HfCheckpoint::open(path.string()).names().size(), tensors.size());
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("there is no model.safetensors.index.json"));
  write_random_tensors(path / "model-00002-of-00002.safetensors", {tensors.begin() + half - 1, tensors.end()});
  EXPECT_THAT(open_error<FormatError>(path), HasSubstr("stands in another shard too"));
}

}  // namespace
}  // namespace pq::io
