#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

#include "base/mapped_file.h"
#include "io/safetensors.h"

namespace pq::io {

/// Types of a metadata value, as GGUF numbers them.
enum class GgufType : std::uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };

/// An array of the metadata, inside the mapped file. Arrays of arrays are not read.
struct GgufArray {
  GgufType type = GgufType::u8;
  std::uint64_t count = 0;
  std::span<const std::byte> bytes;  ///< packed elements; strings as length and text

  /// Calls `take` with each string in order. Throws std::logic_error when the elements are none.
  void for_each_string(const std::function<void(std::string_view)>& take) const;
  /// Numbers and booleans; throws std::logic_error for strings.
  double number(std::uint64_t index) const;
};

using GgufValue = std::variant<std::uint64_t, std::int64_t, double, bool, std::string_view, GgufArray>;

/// One GGUF file (versions 2 and 3, little-endian; https://github.com/ggml-org/ggml/blob/master/docs/gguf.md), mapped.
/// Opening reads metadata and tensor infos, and checks all of it against the file's size, so that no view can leave the
/// file: counts and lengths before anything is reserved for them, no key or tensor twice, known value and element
/// types, rows of whole blocks, offsets aligned and following each other without overlap or hole. Throws FormatError
/// and UnsupportedError (version, byte order, element type), naming the file and the tensor or key.
class GgufFile {
 public:
  explicit GgufFile(const std::filesystem::path& path);
  /// The same over bytes in memory, which must outlive the object; `where` stands for the file in errors.
  GgufFile(std::span<const std::byte> bytes, std::string where);

  /// Null when there is no such key.
  const GgufValue* find(std::string_view key) const;
  bool has_tensor(std::string_view name) const { return tensors_.contains(std::string(name)); }
  /// Shape as safetensors has it, slowest dimension first. Throws FormatError when there is no such tensor.
  TensorView tensor(std::string_view name) const;
  /// In the order of the data.
  const std::vector<std::string>& tensor_names() const { return names_; }
  const std::string& file() const { return where_; }
  std::uint32_t version() const { return version_; }

 private:
  struct Entry {
    DType dtype;
    std::vector<std::int64_t> shape;
    std::uint64_t offset;
    std::uint64_t size;
  };
  class Reader;
  void read();
  void read_version(Reader& reader);
  std::uint64_t read_alignment() const;
  static Entry read_entry(Reader& reader, const std::string& name, const std::string& place);

  MappedFile map_;
  std::span<const std::byte> bytes_;
  std::span<const std::byte> data_;
  std::string where_;
  std::uint32_t version_ = 0;
  std::unordered_map<std::string, GgufValue> metadata_;
  std::unordered_map<std::string, Entry> tensors_;
  std::vector<std::string> names_;
};

/// Whether `path` is a file that begins as GGUF does, or is called so.
bool is_gguf_file(const std::filesystem::path& path);

}  // namespace pq::io
