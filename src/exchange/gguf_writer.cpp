#include "exchange/gguf_writer.h"

#include <fmt/format.h>

#include <limits>
#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "io/ggml_blocks.h"

namespace pq::exchange {
namespace {

constexpr std::uint32_t version = 3;
constexpr std::uint64_t alignment = 32;
constexpr std::size_t longest_name = 63;  // ggml's GGML_MAX_NAME, its zero not counted

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

void put_text(std::string& out, std::string_view text) {
  put(out, std::uint64_t{text.size()});
  out += text;
}

std::uint64_t padded(std::uint64_t size) { return (size + alignment - 1) / alignment * alignment; }

}  // namespace

void GgufKeys::begin(std::string_view key, io::GgufType type) {
  put_text(bytes_, key);
  put(bytes_, static_cast<std::uint32_t>(type));
  ++count_;
}

template <typename T>
void GgufKeys::scalar(std::string_view key, io::GgufType type, T value) {
  begin(key, type);
  put(bytes_, value);
}

void GgufKeys::array(std::string_view key, io::GgufType type, std::size_t count) {
  begin(key, io::GgufType::array);
  put(bytes_, static_cast<std::uint32_t>(type));
  put(bytes_, std::uint64_t{count});
}

void GgufKeys::text(std::string_view key, std::string_view value) {
  begin(key, io::GgufType::string);
  put_text(bytes_, value);
}

void GgufKeys::u32(std::string_view key, std::int64_t value) {
  if (value < 0 || value > std::numeric_limits<std::uint32_t>::max()) {
    throw std::logic_error(fmt::format("key '{}' cannot be {}", key, value));
  }
  scalar(key, io::GgufType::u32, static_cast<std::uint32_t>(value));
}

void GgufKeys::f32(std::string_view key, double value) { scalar(key, io::GgufType::f32, static_cast<float>(value)); }
void GgufKeys::boolean(std::string_view key, bool value) {
  scalar(key, io::GgufType::boolean, std::uint8_t{value ? std::uint8_t{1} : std::uint8_t{0}});
}

void GgufKeys::texts(std::string_view key, std::span<const std::string> values) {
  array(key, io::GgufType::string, values.size());
  for (const std::string& value : values) put_text(bytes_, value);
}

void GgufKeys::i32s(std::string_view key, std::span<const std::int32_t> values) {
  array(key, io::GgufType::i32, values.size());
  for (const std::int32_t value : values) put(bytes_, value);
}

void GgufKeys::f32s(std::string_view key, std::span<const float> values) {
  array(key, io::GgufType::f32, values.size());
  for (const float value : values) put(bytes_, value);
}

void GgufKeys::booleans(std::string_view key, const std::vector<bool>& values) {
  array(key, io::GgufType::boolean, values.size());
  for (const bool value : values) put(bytes_, value ? std::uint8_t{1} : std::uint8_t{0});
}

void GgufKeys::append(const GgufKeys& more) {
  bytes_ += more.bytes_;
  count_ += more.count_;
}

GgufWriter::GgufWriter(OutputFile& file, const GgufKeys& keys, std::vector<io::TensorDeclaration> tensors)
    : file_(file), tensors_(std::move(tensors)) {
  std::string head = "GGUF";
  put(head, version);
  put(head, std::uint64_t{tensors_.size()});
  put(head, keys.count());
  head += keys.bytes();
  std::unordered_set<std::string> names;
  std::uint64_t offset = 0;
  for (const io::TensorDeclaration& tensor : tensors_) {
    const auto type = io::ggml_type_of(tensor.dtype);
    if (!type || tensor.name.size() > longest_name || !names.insert(tensor.name).second) {
      throw std::logic_error(fmt::format("tensor '{}' cannot stand in a GGUF file", tensor.name));
    }
    put_text(head, tensor.name);
    put(head, static_cast<std::uint32_t>(tensor.shape.size()));
    for (std::size_t i = tensor.shape.size(); i-- > 0;) put(head, static_cast<std::uint64_t>(tensor.shape[i]));
    put(head, *type);
    put(head, offset);
    offset += padded(tensor.byte_count());
  }
  head.resize(padded(head.size()));
  file_.write(head);
  if (!tensors_.empty()) left_ = tensors_.front().byte_count();
}

void GgufWriter::append(std::string_view name, std::span<const std::byte> bytes) {
  if (current_ == tensors_.size() || tensors_[current_].name != name || bytes.size() > left_) {
    throw std::logic_error(fmt::format("{} bytes of tensor '{}' come out of order", bytes.size(), name));
  }
  file_.write(bytes);
  left_ -= bytes.size();
  if (left_ > 0) return;
  const std::uint64_t size = tensors_[current_].byte_count();
  const std::string zeros(padded(size) - size, '\0');
  if (!zeros.empty()) file_.write(zeros);
  if (++current_ < tensors_.size()) left_ = tensors_[current_].byte_count();
}

void GgufWriter::finish() const {
  if (current_ < tensors_.size()) {
    throw std::logic_error(fmt::format("tensor '{}' was not written", tensors_[current_].name));
  }
}

}  // namespace pq::exchange
