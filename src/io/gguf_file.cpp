#include "io/gguf_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "io/ggml_blocks.h"

namespace pq::io {
namespace {

namespace fs = std::filesystem;

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view magic = "GGUF";
constexpr std::string_view damaged = "the file is cut short or damaged: download it again";
constexpr std::uint64_t max_name_bytes = 1024;
constexpr std::uint32_t max_dimensions = 4;
constexpr std::uint64_t max_alignment = std::uint64_t{1} << 20;

constexpr std::array<std::size_t, 13> type_sizes{1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

template <typename T>
T load(const std::byte* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

GgufValue scalar(GgufType type, const std::byte* bytes) {
  switch (type) {
    case GgufType::u8:
      return std::uint64_t{load<std::uint8_t>(bytes)};
    case GgufType::i8:
      return std::int64_t{load<std::int8_t>(bytes)};
    case GgufType::u16:
      return std::uint64_t{load<std::uint16_t>(bytes)};
    case GgufType::i16:
      return std::int64_t{load<std::int16_t>(bytes)};
    case GgufType::u32:
      return std::uint64_t{load<std::uint32_t>(bytes)};
    case GgufType::i32:
      return std::int64_t{load<std::int32_t>(bytes)};
    case GgufType::f32:
      return double{load<float>(bytes)};
    case GgufType::boolean:
      return load<std::uint8_t>(bytes) != 0;
    case GgufType::u64:
      return load<std::uint64_t>(bytes);
    case GgufType::i64:
      return load<std::int64_t>(bytes);
    case GgufType::f64:
      return load<double>(bytes);
    default:
      throw std::logic_error("not a scalar of GGUF");
  }
}

}  // namespace

void GgufArray::for_each_string(const std::function<void(std::string_view)>& take) const {
  if (type != GgufType::string) throw std::logic_error("the elements of this array are not strings");
  const std::byte* at = bytes.data();
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto length = load<std::uint64_t>(at);
    take({reinterpret_cast<const char*>(at + sizeof(length)), static_cast<std::size_t>(length)});
    at += sizeof(length) + length;
  }
}

double GgufArray::number(std::uint64_t index) const {
  if (index >= count) throw std::out_of_range("the array has fewer elements");
  const GgufValue value = scalar(type, bytes.data() + index * type_sizes[static_cast<std::size_t>(type)]);
  return std::visit(
      [](const auto& x) -> double {
        if constexpr (std::is_arithmetic_v<std::decay_t<decltype(x)>>) return static_cast<double>(x);
        return 0;
      },
      value);
}

/// Takes the parts of the file from its front; none of them ends behind it.
class GgufFile::Reader {
 public:
  Reader(std::span<const std::byte> bytes, const std::string& where) : bytes_(bytes), where_(where) {}

  std::size_t position() const { return at_; }
  std::size_t left() const { return bytes_.size() - at_; }

  std::span<const std::byte> take(std::uint64_t count, std::string_view what) {
    if (count > left()) {
      throw FormatError(where_, fmt::format("ends inside {} (at byte {} of {})", what, at_, bytes_.size()), damaged);
    }
    const auto part = bytes_.subspan(at_, static_cast<std::size_t>(count));
    at_ += part.size();
    return part;
  }
  template <typename T>
  T number(std::string_view what) {
    return load<T>(take(sizeof(T), what).data());
  }
  std::string_view string(std::string_view what) {
    const auto length = number<std::uint64_t>(what);
    const auto text = take(length, what);
    return {reinterpret_cast<const char*>(text.data()), text.size()};
  }
  std::string name(std::string_view what) {
    const std::string_view text = string(what);
    if (text.empty() || text.size() > max_name_bytes) {
      throw FormatError(where_, fmt::format("{} has {} bytes", what, text.size()), damaged);
    }
    return std::string(text);
  }

  /// Throws FormatError when `count` things of at least `least` bytes cannot follow.
  void check_count(std::uint64_t count, std::size_t least, std::string_view what) const {
    if (count > left() / least) {
      throw FormatError(where_, fmt::format("says that it has {} {}, more than it can hold", count, what), damaged);
    }
  }

  GgufValue value(const std::string& key) {
    const GgufType type = value_type(key);
    const std::string what = fmt::format("the value of '{}'", key);
    if (type == GgufType::string) return string(what);
    if (type == GgufType::array) return array(key, what);
    return scalar(type, take(type_sizes[static_cast<std::size_t>(type)], what).data());
  }

 private:
  GgufType value_type(const std::string& key) {
    const auto type = number<std::uint32_t>(fmt::format("the type of '{}'", key));
    if (type >= type_sizes.size()) {
      throw FormatError(where_, fmt::format("key '{}' has the unknown type {}", key, type), damaged);
    }
    return static_cast<GgufType>(type);
  }

  GgufArray array(const std::string& key, const std::string& what) {
    const GgufType type = value_type(key);
    const auto count = number<std::uint64_t>(what);
    if (type == GgufType::array) {
      throw UnsupportedError(where_, fmt::format("key '{}' is an array of arrays", key), "no model needs one");
    }
    const std::size_t least =
        type == GgufType::string ? sizeof(std::uint64_t) : type_sizes[static_cast<std::size_t>(type)];
    if (count > left() / least) {
      throw FormatError(where_, fmt::format("key '{}' has {} elements, more than the file can hold", key, count),
                        damaged);
    }
    const std::size_t begin = at_;
    if (type == GgufType::string) {
      for (std::uint64_t i = 0; i < count; ++i) string(what);
    } else {
      take(count * least, what);
    }
    return {type, count, bytes_.subspan(begin, at_ - begin)};
  }

  std::span<const std::byte> bytes_;
  const std::string& where_;
  std::size_t at_ = 0;
};

GgufFile::GgufFile(const fs::path& path) : map_(path), bytes_(map_.bytes()), where_(path.string()) {
  check_file_kind(path, bytes_, FileKind::gguf);
  read();
}
GgufFile::GgufFile(std::span<const std::byte> bytes, std::string where) : bytes_(bytes), where_(std::move(where)) {
  read();
}

void GgufFile::read() {
  Reader reader(bytes_, where_);
  read_version(reader);
  const auto tensor_count = reader.number<std::uint64_t>("the number of tensors");
  const auto key_count = reader.number<std::uint64_t>("the number of keys");
  reader.check_count(key_count, 14, "keys");
  reader.check_count(tensor_count, 32, "tensors");
  for (std::uint64_t i = 0; i < key_count; ++i) {
    const std::string key = reader.name(fmt::format("key {}", i));
    if (!metadata_.emplace(key, reader.value(key)).second) {
      throw FormatError(where_, fmt::format("has the key '{}' twice", key), damaged);
    }
  }
  const std::uint64_t alignment = read_alignment();
  const auto round_up = [&](std::uint64_t bytes) { return (bytes + alignment - 1) / alignment * alignment; };

  reader.check_count(tensor_count, 32, "tensors");
  std::uint64_t expected = 0;
  for (std::uint64_t i = 0; i < tensor_count; ++i) {
    const std::string name = reader.name(fmt::format("the name of tensor {}", i));
    const std::string place = fmt::format("{}: tensor '{}'", where_, name);
    Entry entry = read_entry(reader, name, place);
    if (entry.offset % alignment != 0) {
      throw FormatError(place, fmt::format("begins at {}, not at a multiple of {}", entry.offset, alignment), damaged);
    }
    if (entry.offset < expected) {
      throw FormatError(place, fmt::format("begins at {}, inside the tensor before it", entry.offset), damaged);
    }
    if (entry.offset > expected) {
      throw FormatError(place, fmt::format("begins at {}, behind a hole from {}", entry.offset, expected), damaged);
    }
    if (entry.size > bytes_.size() || entry.offset > bytes_.size()) {
      throw FormatError(place, fmt::format("does not fit into the file, which has {} bytes", bytes_.size()), damaged);
    }
    expected = round_up(entry.offset + entry.size);
    if (!tensors_.emplace(name, std::move(entry)).second) throw FormatError(place, "stands twice in the file", damaged);
    names_.push_back(name);
  }
  if (names_.empty()) return;
  const std::uint64_t begin = round_up(reader.position());
  const Entry& last = tensors_.at(names_.back());
  const std::uint64_t end = begin + last.offset + last.size;
  if (end > bytes_.size()) {
    throw FormatError(fmt::format("{}: tensor '{}'", where_, names_.back()),
                      fmt::format("ends at byte {}, behind the end of the file ({})", end, bytes_.size()), damaged);
  }
  data_ = bytes_.subspan(static_cast<std::size_t>(begin));
}

void GgufFile::read_version(Reader& reader) {
  const auto start = std::as_bytes(std::span(magic));
  if (bytes_.size() < magic.size() || !std::equal(start.begin(), start.end(), bytes_.begin())) {
    throw FormatError(where_, "is not a GGUF file (it does not begin with 'GGUF')",
                      "name a GGUF file, or the directory of a model");
  }
  reader.take(magic.size(), "the magic number");
  version_ = reader.number<std::uint32_t>("the version");
  if ((version_ & 0xFFFFU) == 0 && version_ != 0) {
    throw UnsupportedError(where_, "is a big-endian GGUF file", "get the little-endian one");
  }
  if (version_ != 2 && version_ != 3) {
    throw UnsupportedError(
        where_, fmt::format("is of GGUF version {}, and versions 2 and 3 are read", version_),
        version_ < 2 ? "convert the model again with a current llama.cpp" : "a newer pq may read it");
  }
}

std::uint64_t GgufFile::read_alignment() const {
  const GgufValue* value = find("general.alignment");
  if (value == nullptr) return 32;
  const auto* number = std::get_if<std::uint64_t>(value);
  if (number == nullptr || !std::has_single_bit(*number) || *number > max_alignment) {
    throw FormatError(where_, "general.alignment is not a power of two up to 2^20", damaged);
  }
  return *number;
}

GgufFile::Entry GgufFile::read_entry(Reader& reader, const std::string& name, const std::string& place) {
  const std::string what = fmt::format("the description of tensor '{}'", name);
  const auto dimensions = reader.number<std::uint32_t>(what);
  if (dimensions == 0 || dimensions > max_dimensions) {
    throw FormatError(place, fmt::format("has {} dimensions", dimensions), damaged);
  }
  std::vector<std::int64_t> shape(dimensions);
  for (std::uint32_t d = 0; d < dimensions; ++d) {
    const auto size = reader.number<std::uint64_t>(what);
    if (size == 0 || size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
      throw FormatError(place, fmt::format("has a dimension of {} elements", size), damaged);
    }
    shape[dimensions - 1 - d] = static_cast<std::int64_t>(size);
  }
  const auto type = reader.number<std::uint32_t>(what);
  const auto offset = reader.number<std::uint64_t>(what);
  const auto dtype = dtype_of_ggml_type(type);
  if (!dtype) {
    throw UnsupportedError(place, fmt::format("is of type {}, which is not read", ggml_type_text(type)),
                           "F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 and Q2_K to Q6_K are: get one of those");
  }
  const auto block = static_cast<std::int64_t>(dtype_block(*dtype));
  if (shape.back() % block != 0) {
    throw FormatError(
        place,
        fmt::format("has rows of {} elements, not of whole blocks of {} ({})", shape.back(), block, dtype_name(*dtype)),
        damaged);
  }
  const auto count = element_count(shape);
  const auto block_bytes = static_cast<std::int64_t>(dtype_size(*dtype));
  if (!count || *count / block > std::numeric_limits<std::int64_t>::max() / block_bytes) {
    throw FormatError(place, fmt::format("has the impossible shape {}", shape_text(shape)), damaged);
  }
  return {*dtype, std::move(shape), offset, static_cast<std::uint64_t>(*count / block * block_bytes)};
}

const GgufValue* GgufFile::find(std::string_view key) const {
  const auto found = metadata_.find(std::string(key));
  return found == metadata_.end() ? nullptr : &found->second;
}

TensorView GgufFile::tensor(std::string_view name) const {
  const auto found = tensors_.find(std::string(name));
  if (found == tensors_.end()) throw FormatError(where_, fmt::format("there is no tensor '{}'", name), damaged);
  const Entry& entry = found->second;
  return {.name = found->first,
          .dtype = entry.dtype,
          .shape = entry.shape,
          .bytes = data_.subspan(static_cast<std::size_t>(entry.offset), static_cast<std::size_t>(entry.size)),
          .file = where_};
}

bool is_gguf_file(const fs::path& path) {
  std::error_code code;
  if (!fs::is_regular_file(path, code)) return false;
  if (path.extension() == ".gguf") return true;
  std::array<char, 4> start{};
  std::ifstream file(path, std::ios::binary);
  file.read(start.data(), start.size());
  return file.gcount() == 4 && std::string_view(start.data(), start.size()) == magic;
}

}  // namespace pq::io
