#pragma once

// Small files for the tests of this folder.

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/error_for_test.h"
#include "base/json.h"
#include "base/random.h"
#include "io/hf_checkpoint.h"
#include "io/hf_config.h"
#include "io/safetensors.h"

namespace pq::io {
namespace fs = std::filesystem;

namespace testing {

class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (fs::temp_directory_path() / "pq_io_test_XXXXXX").string();
    path_ = ::mkdtemp(name.data());
  }
  ~TemporaryDirectory() {
    std::error_code code;
    fs::remove_all(path_, code);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

inline void write_bytes(const fs::path& path, std::string_view bytes) {
  fs::create_directories(path.parent_path());
  std::ofstream(path, std::ios::binary).write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

inline std::string read_bytes(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

/// A safetensors file with this header text and data, whatever they are; the announced length can be made to lie.
inline std::string raw_safetensors(std::string_view header, std::string_view data, std::uint64_t length_error = 0) {
  const std::uint64_t length = header.size() + length_error;
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(length >> (8 * i) & 0xff);
  bytes += header;
  bytes += data;
  return bytes;
}

using pq::message_of;

/// A small untied llama config.
inline Json small_config() {
  return parse_json(R"({"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 16,
    "intermediate_size": 20, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 11,
    "max_position_embeddings": 64, "rms_norm_eps": 1e-05, "tie_word_embeddings": false})",
                    "small_config");
}

/// The tensors of a checkpoint with this config.
inline std::vector<TensorDeclaration> tensors_for(const Json& config) {
  return required_tensors(parse_config(config, "config"));
}

/// Writes model.safetensors with these tensors, random values (float types are filled with F32 or BF16 bits of
/// normals).
inline void write_random_tensors(const fs::path& path, const std::vector<TensorDeclaration>& tensors,
                                 std::uint64_t seed = 1) {
  fs::create_directories(path.parent_path());
  Random random(seed, "weights");
  SafetensorsWriter writer(path, tensors);
  for (const TensorDeclaration& tensor : tensors) {
    std::vector<float> values(static_cast<std::size_t>(tensor.byte_count() / dtype_size(tensor.dtype)));
    for (float& value : values) value = static_cast<float>(random.normal());
    std::vector<std::byte> raw(tensor.byte_count());
    for (std::size_t i = 0; i + 4 <= raw.size(); i += 4) std::memcpy(&raw[i], &values[i / 4], 4);
    writer.append(tensor.name, raw);
  }
  writer.finish();
}

/// A whole random checkpoint.
inline void write_checkpoint(const fs::path& directory, const Json& config,
                             const std::vector<TensorDeclaration>& tensors) {
  write_bytes(directory / "config.json", config.dump());
  write_random_tensors(directory / "model.safetensors", tensors);
}

}  // namespace testing
}  // namespace pq::io
