#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace pq::io {

/// Writes the tensors of a model into a directory, streaming: one model.safetensors, or shards of at most so many bytes
/// (a larger tensor stands alone) with model.safetensors.index.json.
class ShardedWriter {
 public:
  /// Writes the index. Throws SystemError when the disk is full.
  ShardedWriter(std::filesystem::path directory, std::vector<TensorDeclaration> layout, std::uint64_t max_shard_bytes);

  /// The next bytes of tensor `name`; tensors come in the layout's order, each in one call or in many. Throws
  /// std::logic_error for another one, or too many bytes.
  void append(std::string_view name, std::span<const std::byte> bytes);
  /// A whole tensor. Throws std::logic_error when it has another size.
  template <typename T>
  void append_values(std::string_view name, std::span<const T> values) {
    check_size(name, values.size_bytes());
    append(name, std::as_bytes(values));
  }
  /// Throws std::logic_error when something was not written.
  void check_complete() const;

  const std::vector<TensorDeclaration>& layout() const { return layout_; }
  /// Of all tensors together.
  std::uint64_t tensor_bytes() const { return tensor_bytes_; }
  std::size_t files() const { return shards_.size(); }

 private:
  void plan(std::uint64_t max_shard_bytes);
  void write_index() const;
  void check_size(std::string_view name, std::uint64_t bytes) const;

  struct Shard {
    std::string file;
    std::size_t first;  // of layout_
    std::size_t count;
  };

  std::filesystem::path directory_;
  std::vector<TensorDeclaration> layout_;
  std::uint64_t tensor_bytes_ = 0;
  std::vector<Shard> shards_;
  std::unique_ptr<SafetensorsWriter> writer_;  // of shards_[shard_]
  std::size_t shard_ = 0;
  std::size_t tensor_ = 0;    // of layout_: the one that is being written
  std::uint64_t filled_ = 0;  // its bytes so far
};

}  // namespace pq::io
