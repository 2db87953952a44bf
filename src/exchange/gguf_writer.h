#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/files.h"
#include "io/dtype.h"
#include "io/gguf_file.h"

namespace pq::exchange {

/// The metadata of a GGUF file in the making, in the order of the calls.
class GgufKeys {
 public:
  void text(std::string_view key, std::string_view value);
  void u32(std::string_view key, std::int64_t value);
  void f32(std::string_view key, double value);
  void boolean(std::string_view key, bool value);
  void texts(std::string_view key, std::span<const std::string> values);
  void i32s(std::string_view key, std::span<const std::int32_t> values);
  void f32s(std::string_view key, std::span<const float> values);
  void booleans(std::string_view key, const std::vector<bool>& values);
  void append(const GgufKeys& more);

  std::uint64_t count() const { return count_; }
  const std::string& bytes() const { return bytes_; }

 private:
  template <typename T>
  void scalar(std::string_view key, io::GgufType type, T value);
  void array(std::string_view key, io::GgufType type, std::size_t count);
  void begin(std::string_view key, io::GgufType type);

  std::string bytes_;
  std::uint64_t count_ = 0;
};

/// Writes one GGUF file (version 3, little-endian, alignment 32) front to back: metadata and tensor infos at once, then
/// the tensors' bytes as they come. Shapes are declared as safetensors has them, slowest dimension first. Throws
/// SystemError when the disk is full; std::logic_error for a caller's mistake: a name declared twice or of more than 63
/// bytes, bytes out of order or out of measure.
class GgufWriter {
 public:
  GgufWriter(OutputFile& file, const GgufKeys& keys, std::vector<io::TensorDeclaration> tensors);

  /// The next bytes of tensor `name`; tensors come in the declared order, each in one call or in many.
  void append(std::string_view name, std::span<const std::byte> bytes);
  /// Checks that every tensor is complete.
  void finish() const;

 private:
  OutputFile& file_;
  std::vector<io::TensorDeclaration> tensors_;
  std::size_t current_ = 0;
  std::uint64_t left_ = 0;  // bytes still to come of tensors_[current_]
};

}  // namespace pq::exchange
