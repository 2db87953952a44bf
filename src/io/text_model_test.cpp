#include "io/text_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/hf_checkpoint.h"
#include "io/hf_config.h"
#include "io/model_source.h"
#include "io/test_files.h"

namespace pq::io {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using testing::message_of;
using ::testing::Not;
using testing::small_config;
using testing::TemporaryDirectory;
using testing::tensors_for;
using testing::write_checkpoint;

using Tensors = std::vector<TensorDeclaration>;

/// `tensors` with `model.` at the beginning of a name replaced by `base`, and `lm_head.` by `head`.
Tensors renamed(Tensors tensors, const std::string& base, const std::string& head) {
  for (TensorDeclaration& tensor : tensors) {
    const bool is_head = tensor.name == tensor_names::lm_head;
    const std::string_view start = is_head ? "lm_head." : "model.";
    tensor.name = (is_head ? head : base) + tensor.name.substr(start.size());
  }
  return tensors;
}

std::string bytes_of(const TensorView& view) {
  return {reinterpret_cast<const char*>(view.bytes.data()), view.bytes.size()};
}

/// All values that a run reads, in the order of computation.
std::string values_of(const fs::path& directory) {
  const ModelSource source = open_model_source(directory.string());
  std::string values = bytes_of(source.embedding) + bytes_of(source.lm_head);
  for (std::int64_t block = 0; block < source.spec.block_count; ++block) {
    const BlockSource held = source.block(block);
    for (const LinearId id : all_linears) values += bytes_of(held.weights[id]);
  }
  return values;
}

TEST(TextModel, TensorNamesMayBeginAsTheyLike) {
  const TemporaryDirectory directory;
  const Json config = small_config();
  const Tensors tensors = tensors_for(config);
  write_checkpoint(directory.path(), config, tensors);
  const std::string values = values_of(directory.path());
  const std::vector<std::pair<std::string, std::string>> beginnings{
      {"", "lm_head."},
      {"language_model.model.", "language_model.lm_head."},
      {"model.language_model.", "lm_head."},
      {"language_model.", "lm_head."},
      {"module.model.", "module.lm_head."},
      {"_orig_mod.model.", "_orig_mod.lm_head."},
      {"module._orig_mod.model.", "module._orig_mod.lm_head."},
      {"model.model.", "model.lm_head."},
  };
  for (const auto& [base, head] : beginnings) {
    write_checkpoint(directory.path(), config, renamed(tensors, base, head));
    EXPECT_EQ(values_of(directory.path()), values) << base;
  }
}

// AutoModel saves a model without its head: right for a tied one, and of another it is said.
TEST(TextModel, ABaseModelIsWholeWhereItsHeadIsTied) {
  const TemporaryDirectory directory;
  Json config = small_config();
  config["architectures"] = {"LlamaModel"};
  config["tie_word_embeddings"] = true;
  const Tensors tied = tensors_for(config);
  write_checkpoint(directory.path(), config, tied);
  const std::string values = values_of(directory.path());
  write_checkpoint(directory.path(), config, renamed(tied, "", ""));
  EXPECT_EQ(values_of(directory.path()), values);

  config["tie_word_embeddings"] = false;
  write_checkpoint(directory.path(), config, renamed(tied, "", ""));
  EXPECT_THAT(message_of<FormatError>([&] { HfCheckpoint::open(directory.path().string()); }),
              AllOf(HasSubstr("no tensor 'lm_head.weight'"), HasSubstr("base model without head"),
                    HasSubstr("saved with its head")));
}

TEST(TextModel, TwoTensorsOfOneNameMustBeEqual) {
  const TemporaryDirectory directory;
  const Json config = small_config();
  Tensors tensors = tensors_for(config);
  tensors.push_back({"norm.weight", DType::f32, {16}});
  write_checkpoint(directory.path(), config, tensors);
  EXPECT_THAT(message_of<FormatError>([&] { HfCheckpoint::open(directory.path().string()); }),
              AllOf(HasSubstr("'model.norm.weight' and 'norm.weight'"), HasSubstr("two values of one tensor")));
  SafetensorsWriter writer(directory.path() / "model.safetensors", tensors);
  for (const TensorDeclaration& tensor : tensors)
    writer.append(tensor.name, std::vector<std::byte>(tensor.byte_count()));
  writer.finish();
  EXPECT_NO_THROW(HfCheckpoint::open(directory.path().string()));
}

TEST(TextModel, LeavesTheImagesHalfOut) {
  const TemporaryDirectory directory;
  const Json config = small_config();
  Tensors tensors = renamed(tensors_for(config), "model.language_model.", "lm_head.");
  tensors.push_back({"model.vision_tower.encoder.layers.0.self_attn.q_proj.weight", DType::f32, {4, 4}});
  write_checkpoint(directory.path(), config, tensors);
  EXPECT_THAT(HfCheckpoint::open(directory.path().string()).names(), Not(Contains(HasSubstr("vision"))));
}

}  // namespace
}  // namespace pq::io
