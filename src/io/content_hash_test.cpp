#include "io/content_hash.h"

#include <gmock/gmock.h>

#include <set>

#include "base/parallel_for.h"
#include "io/hf_config.h"
#include "io/test_files.h"

namespace pq::io {
namespace {

using testing::small_config;
using testing::TemporaryDirectory;
using testing::write_bytes;

std::string hash_of(std::string_view text) { return content_hash(std::as_bytes(std::span(text))); }

TEST(ContentHash, IsXxh3) {
  // Vectors of the reference implementation (xxHash 0.8.1, cli/xsum_sanity_check.c, seed 0), over its pseudo-random
  // bytes.
  EXPECT_EQ(hash_of(""), "2d06800538d394c2");
  std::string bytes;
  std::uint64_t generator = 2654435761U;
  for (int i = 0; i < 2367; ++i) {
    bytes += static_cast<char>(generator >> 56);
    generator *= 11400714785074694797U;
  }
  EXPECT_EQ(hash_of(bytes.substr(0, 1)), "c44bdff4074eecdb");
  EXPECT_EQ(hash_of(bytes.substr(0, 6)), "27b56a84cd2d7325");
  EXPECT_EQ(hash_of(bytes.substr(0, 12)), "a713daf0dfbb77e7");
  EXPECT_EQ(hash_of(bytes.substr(0, 48)), "397da259ecba1f11");
  EXPECT_EQ(hash_of(bytes.substr(0, 403)), "cdeb804d65c6dea4");
  EXPECT_EQ(hash_of(bytes), "cb37aeb9e5d361ed");
}

TEST(ContentHash, PiecesAndFilesGiveTheSame) {
  const TemporaryDirectory directory;
  std::string text(100'000, 'x');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * i >> 3);
  write_bytes(directory.path() / "a", text);
  write_bytes(directory.path() / "empty", "");
  EXPECT_EQ(content_hash_of_file(directory.path() / "a"), hash_of(text));
  EXPECT_EQ(content_hash_of_file(directory.path() / "empty"), hash_of(""));
  EXPECT_THROW(content_hash_of_file(directory.path() / "none"), InputError);
  ContentHasher hasher;
  for (std::size_t i = 0; i < text.size(); i += 777)
    hasher.add(std::as_bytes(std::span(text).subspan(i, std::min<std::size_t>(777, text.size() - i))));
  EXPECT_EQ(hasher.digits(), hash_of(text));
  ContentHasher first;
  first.add_text("ab");
  first.add_text("c");
  ContentHasher second;
  second.add_text("a");
  second.add_text("bc");
  EXPECT_NE(first.digits(), second.digits());
}

class CheckpointHash : public ::testing::Test {
 protected:
  /// The hash of a model in `shards` files, whose tensor `changed` differs in one byte.
  std::string hash(const Json& config, std::size_t shards, DType dtype = DType::f32,
                   std::string_view changed = "") const {
    const fs::path path = directory_.path() / "model";
    fs::remove_all(path);
    write_bytes(path / "config.json", config.dump(static_cast<int>(shards)));
    auto tensors = testing::tensors_for(config);
    for (auto& tensor : tensors) tensor.dtype = dtype;
    Json index = Json::object();
    for (std::size_t shard = 0; shard < shards; ++shard) {
      std::vector<TensorDeclaration> mine;
      for (std::size_t i = shard; i < tensors.size(); i += shards) mine.push_back(tensors[i]);
      if (shards > 1) std::reverse(mine.begin(), mine.end());
      const std::string file =
          shards == 1 ? "model.safetensors" : fmt::format("model-{:05}-of-{:05}.safetensors", shard + 1, shards);
      SafetensorsWriter writer(path / file, mine);
      for (const auto& tensor : mine) {
        std::vector<std::byte> bytes(tensor.byte_count());
        for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i % 61 + tensor.name.size());
        if (tensor.name == changed) bytes.back() ^= std::byte{1};
        writer.append(tensor.name, bytes);
        index["weight_map"][tensor.name] = file;
      }
      writer.finish();
    }
    if (shards > 1) write_bytes(path / "model.safetensors.index.json", index.dump());
    return checkpoint_hash(HfCheckpoint::open(path.string()));
  }

  TemporaryDirectory directory_;
};

TEST_F(CheckpointHash, DependsOnTheModelAndNotOnItsFilesOrTheThreads) {
  const Json config = small_config();
  const std::string whole = hash(config, 1);
  EXPECT_EQ(hash(config, 3), whole);
  EXPECT_EQ(whole.size(), 16U);
  for (const int threads : {1, 3}) {
    set_thread_count(threads);
    EXPECT_EQ(hash(config, 1), whole);
  }
  set_thread_count(0);
  std::set<std::string> different{whole};
  Json other = config;
  other["rms_norm_eps"] = 1e-6;
  EXPECT_TRUE(different.insert(hash(other, 1)).second);
  EXPECT_TRUE(different.insert(hash(config, 1, DType::bf16)).second);
  EXPECT_TRUE(different.insert(hash(config, 1, DType::f16)).second);
  for (const auto& tensor : testing::tensors_for(config)) {
    EXPECT_TRUE(different.insert(hash(config, 2, DType::f32, tensor.name)).second) << tensor.name;
  }
}

}  // namespace
}  // namespace pq::io
