#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/files.h"
#include "base/mapped_file.h"
#include "io/dtype.h"

namespace pq::io {

/// A tensor inside a mapped file: valid as long as the object that gave it. Row-major, little-endian, not necessarily
/// aligned.
struct TensorView {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
  std::string file;  ///< for error messages
  /// Not 0: `bytes` has the rows of each head of so many channels in the order 0, d/2, 1, d/2 + 1, … (GGUF keeps the Q
  /// and K of some architectures so); row numbers, and what to_float32 gives, are Hugging Face's.
  std::int64_t rope_pairs = 0;
  /// Of a block type: values are rounded to bfloat16, as loaders that dequantize into a 16-bit model have them.
  bool round_to_bf16 = false;

  std::int64_t size() const { return static_cast<std::int64_t>(bytes.size() / dtype_size(dtype) * dtype_block(dtype)); }
  /// Where a row stands in `bytes`, counted in rows.
  std::int64_t stored_row(std::int64_t row) const;
  /// Rows [first, first + count) of the first dimension, in place; `name` stays that of the whole. Throws
  /// std::out_of_range for rows that the tensor does not have, std::logic_error for parts of heads under rope_pairs.
  TensorView rows(std::int64_t first, std::int64_t count) const;
};

/// Throws FormatError "FILE: tensor 'NAME' holds NaN or infinity", or UnsupportedError for an F64 tensor whose values
/// float32 cannot hold.
[[noreturn]] void refuse_not_finite(const TensorView& view);

/// One safetensors file (https://github.com/huggingface/safetensors, "Format"), mapped. Nothing but the header is read
/// before a tensor's bytes are touched. Opening checks the whole header, so that a view can never leave the file: the
/// header's length (at most 100 MB, inside the file), its JSON (no name twice), each shape against its offsets, offsets
/// that cover the data without overlap or hole. Throws FormatError naming the file and the tensor; SystemError when the
/// file cannot be mapped.
class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);
  /// The same over bytes in memory, which must outlive the object; `where` stands for the file in errors.
  SafetensorsFile(std::span<const std::byte> bytes, std::string where);

  bool has(std::string_view name) const { return entries_.contains(std::string(name)); }
  /// Throws FormatError when there is no such tensor, UnsupportedError for an element type that is not read here.
  TensorView tensor(std::string_view name) const;
  /// Names in the order of the data.
  const std::vector<std::string>& names() const { return names_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const std::string& file() const { return where_; }

 private:
  struct Entry {
    std::string dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t begin = 0;
    std::uint64_t end = 0;
  };
  class HeaderReader;
  void read();
  void check_offsets(std::uint64_t data_size);

  MappedFile map_;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> data_;
  std::string where_;
  std::unordered_map<std::string, Entry> entries_;
  std::vector<std::string> names_;
  std::map<std::string, std::string> metadata_;
};

/// Writes one safetensors file front to back: the header at once, from the declarations, then the tensors' bytes as
/// they come. Throws SystemError when the disk is full; std::logic_error for a caller's mistake: a name declared twice,
/// bytes out of order or out of measure. The header is padded with spaces to a multiple of 8 bytes.
class SafetensorsWriter {
 public:
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorDeclaration> declarations,
                    const std::map<std::string, std::string>& metadata = {{"format", "pt"}});
  /// The same into a file that is open and empty.
  SafetensorsWriter(OutputFile file, std::vector<TensorDeclaration> declarations,
                    const std::map<std::string, std::string>& metadata);

  /// The next bytes of tensor `name`; tensors come in the declared order, each in one call or in many.
  void append(std::string_view name, std::span<const std::byte> bytes);
  /// Checks that every tensor is complete, flushes and closes.
  void finish();

 private:
  void skip_complete();

  std::string where_;
  std::vector<TensorDeclaration> declarations_;
  OutputFile file_;
  std::size_t current_ = 0;
  std::uint64_t left_ = 0;  // bytes still to come of declarations_[current_]
};

/// The tensors of a model, by their Hugging Face names.
class TensorStore {
 public:
  TensorStore() = default;
  TensorStore(const TensorStore&) = default;
  TensorStore& operator=(const TensorStore&) = default;
  TensorStore(TensorStore&&) = default;
  TensorStore& operator=(TensorStore&&) = default;
  virtual ~TensorStore() = default;

  virtual bool has(std::string_view name) const = 0;
  /// Throws FormatError naming the file when there is no such tensor.
  virtual TensorView tensor(std::string_view name) const = 0;
  /// In the order of the files.
  virtual const std::vector<std::string>& names() const = 0;
  /// The file to name in messages about the whole.
  virtual const std::string& file() const = 0;
};

/// The safetensors of a directory: `model.safetensors`, or the shards that `model.safetensors.index.json` lists, or
/// without an index all of model-00001-of-0000N.safetensors.
class ShardedTensors : public TensorStore {
 public:
  /// Opens every shard and checks it and the index: shard names are plain file names inside the directory, every listed
  /// tensor is in its shard. Throws what check_model_directory throws when the directory holds no such file, InputError
  /// for a shard that is missing, FormatError naming index, shard and tensor.
  explicit ShardedTensors(const std::filesystem::path& directory);

  bool has(std::string_view name) const override { return shard_of_.contains(std::string(name)); }
  TensorView tensor(std::string_view name) const override;
  const std::vector<std::string>& names() const override { return names_; }
  /// model.safetensors, the index, or the first shard.
  const std::string& file() const override { return where_; }

 private:
  void take_whole(const std::filesystem::path& file);

  std::string where_;
  std::vector<SafetensorsFile> shards_;
  std::unordered_map<std::string, std::size_t> shard_of_;
  std::vector<std::string> names_;
};

/// Throws FormatError "FILE: tensor 'NAME' is F16 [2, 3], expected F32 [3]" when they differ.
void expect_tensor(const TensorView& view, const TensorDeclaration& declaration);

/// A floating tensor to float32 (F64 rounds, block types are dequantized); `out` holds exactly view.size() elements.
/// Runs on thread_count() threads. Throws UnsupportedError for an integer tensor, std::logic_error when `out` has
/// another size.
void to_float32(const TensorView& view, std::span<float> out);
/// Rows [first_row, first_row + row_count) of the first dimension; out [row_count, product of the other dimensions].
void rows_to_float32(const TensorView& view, std::int64_t first_row, std::int64_t row_count, std::span<float> out);

}  // namespace pq::io
