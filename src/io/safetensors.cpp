#include "io/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"

namespace pq::io {
namespace {

constexpr std::uint64_t max_header_bytes = 100'000'000;  // the limit of the safetensors library itself
constexpr std::string_view damaged = "the file is damaged or incomplete; fetch it again";

std::string tensor_place(std::string_view file, std::string_view name) {
  return fmt::format("{}: tensor '{}'", file, name);
}

}  // namespace

/// Reads the header as a stream of JSON events, so that a hostile header costs memory in proportion to its length only,
/// and a name that stands twice is seen.
class SafetensorsFile::HeaderReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderReader(SafetensorsFile& file) : file_(file) {}

  bool null() override { return scalar("null"); }
  bool boolean(bool) override { return scalar("a boolean"); }
  bool number_integer(number_integer_t) override { return scalar("a negative number"); }
  bool number_float(number_float_t, const string_t&) override {
    return scalar("a number that is not a 64-bit integer");
  }
  bool binary(binary_t&) override { return scalar("binary data"); }

  bool number_unsigned(number_unsigned_t value) override {
    if (place_ != Place::shape && place_ != Place::offsets) return scalar("a number");
    if (value > static_cast<number_unsigned_t>(std::numeric_limits<std::int64_t>::max()))
      return scalar("a number above 2^63");
    if (place_ == Place::shape) {
      entry_.shape.push_back(static_cast<std::int64_t>(value));
    } else {
      if (offset_count_ < 2) (offset_count_ == 0 ? entry_.begin : entry_.end) = value;
      ++offset_count_;
    }
    return true;
  }

  bool string(string_t& value) override {
    if (place_ == Place::metadata) {
      if (!file_.metadata_.emplace(field_, std::move(value)).second)
        fail(fmt::format("metadata '{}' stands twice", field_));
    } else if (place_ == Place::tensor && field_ == "dtype") {
      entry_.dtype = std::move(value);
    } else {
      return scalar("a string");
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (place_ == Place::start) {
      place_ = Place::top;
    } else if (place_ == Place::top) {
      place_ = name_ == "__metadata__" ? Place::metadata : Place::tensor;
      entry_ = Entry{};
      offset_count_ = 0;
      seen_ = 0;
    } else {
      return scalar("an object");
    }
    return true;
  }

  bool key(string_t& value) override {
    if (place_ == Place::top) {
      name_ = std::move(value);
    } else {
      field_ = std::move(value);
      if (place_ == Place::tensor) see_field();
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::top) {
      place_ = Place::end;
    } else if (place_ == Place::metadata) {
      if (std::exchange(has_metadata_, true)) fail("'__metadata__' stands twice");
      place_ = Place::top;
    } else {
      if (seen_ != 7 || offset_count_ != 2) fail_tensor("needs dtype, shape and two data_offsets");
      file_.names_.push_back(name_);
      if (!file_.entries_.emplace(name_, std::move(entry_)).second) fail_tensor("stands twice in the header");
      place_ = Place::top;
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::tensor && field_ == "shape") {
      place_ = Place::shape;
    } else if (place_ == Place::tensor && field_ == "data_offsets") {
      place_ = Place::offsets;
    } else {
      return scalar("an array");
    }
    return true;
  }

  bool end_array() override {
    place_ = Place::tensor;
    return true;
  }

  bool parse_error(std::size_t position, const std::string&, const nlohmann::json::exception&) override {
    fail(fmt::format("the header is not valid JSON (at its byte {})", position));
  }

 private:
  enum class Place { start, top, metadata, tensor, shape, offsets, end };

  [[noreturn]] void fail(std::string_view what) const { throw FormatError(file_.where_, what, damaged); }
  [[noreturn]] void fail_tensor(std::string_view what) const {
    throw FormatError(tensor_place(file_.where_, name_), what, damaged);
  }

  /// A value where the format has none of its kind.
  bool scalar(std::string_view kind) const {
    if (place_ == Place::start) fail("the header is not a JSON object");
    if (place_ == Place::metadata) fail(fmt::format("metadata '{}' is {}, not a string", field_, kind));
    if (place_ == Place::top) fail(fmt::format("the header's entry '{}' is {}, not an object", name_, kind));
    const std::string field = place_ == Place::shape ? "shape" : place_ == Place::offsets ? "data_offsets" : field_;
    fail_tensor(fmt::format("its {} holds {}", field, kind));
  }

  void see_field() {
    const unsigned bit = field_ == "dtype" ? 1U : field_ == "shape" ? 2U : field_ == "data_offsets" ? 4U : 0U;
    if (bit == 0) fail_tensor(fmt::format("has an unknown field '{}'", field_));
    if ((seen_ & bit) != 0) fail_tensor(fmt::format("has '{}' twice", field_));
    seen_ |= bit;
  }

  SafetensorsFile& file_;
  Place place_ = Place::start;
  std::string name_;
  std::string field_;
  Entry entry_;
  unsigned seen_ = 0;
  int offset_count_ = 0;
  bool has_metadata_ = false;
};

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path)
    : map_(path), bytes_(map_.bytes()), where_(path.string()) {
  check_file_kind(path, bytes_, FileKind::safetensors);
  read();
}

SafetensorsFile::SafetensorsFile(std::span<const std::byte> bytes, std::string where)
    : bytes_(bytes), where_(std::move(where)) {
  read();
}

void SafetensorsFile::read() {
  constexpr std::size_t length_bytes = 8;
  if (bytes_.size() < length_bytes) {
    throw FormatError(where_, fmt::format("is only {} bytes long, too short for a safetensors file", bytes_.size()),
                      damaged);
  }
  std::uint64_t header_bytes = 0;
  for (std::size_t i = length_bytes; i-- > 0;)
    header_bytes = header_bytes << 8 | std::to_integer<std::uint64_t>(bytes_[i]);
  if (header_bytes > max_header_bytes) {
    throw FormatError(
        where_, fmt::format("announces a header of {} bytes; the format allows {}", header_bytes, max_header_bytes),
        "it is not a safetensors file, or damaged");
  }
  if (header_bytes > bytes_.size() - length_bytes) {
    throw FormatError(
        where_, fmt::format("announces a header of {} bytes, but is only {} bytes long", header_bytes, bytes_.size()),
        damaged);
  }
  const auto header = bytes_.subspan(length_bytes, header_bytes);
  data_ = bytes_.subspan(length_bytes + header_bytes);
  if (header.empty() || header[0] != std::byte{'{'}) {
    throw FormatError(where_, "the header does not begin with '{'", "it is not a safetensors file, or damaged");
  }
  const auto* text = reinterpret_cast<const char*>(header.data());
  HeaderReader reader(*this);
  nlohmann::json::sax_parse(text, text + header.size(), &reader);
  check_offsets(data_.size());
}

void SafetensorsFile::check_offsets(std::uint64_t data_size) {
  const auto range = [&](const std::string& name) {
    const Entry& entry = entries_.find(name)->second;
    return std::pair(entry.begin, entry.end);
  };
  std::stable_sort(names_.begin(), names_.end(),
                   [&](const std::string& a, const std::string& b) { return range(a) < range(b); });
  std::uint64_t covered = 0;
  const std::string* previous = nullptr;
  for (const std::string& name : names_) {
    const Entry& entry = entries_.find(name)->second;
    const auto fail = [&](const std::string& what) { throw FormatError(tensor_place(where_, name), what, damaged); };
    if (entry.begin > entry.end) fail(fmt::format("its data_offsets run backwards ({} to {})", entry.begin, entry.end));
    if (entry.end > data_size) {
      fail(fmt::format("ends at byte {} of the data, but the file holds only {}", entry.end, data_size));
    }
    if (entry.begin < covered) fail(fmt::format("overlaps tensor '{}'", *previous));
    if (entry.begin > covered) fail(fmt::format("there is a hole of {} bytes before its data", entry.begin - covered));
    const auto count = element_count(entry.shape);
    if (!count) fail(fmt::format("its shape {} overflows", shape_text(entry.shape)));
    if (const auto dtype = dtype_from_name(entry.dtype)) {
      const std::uint64_t size = dtype_size(*dtype);
      const std::uint64_t bytes = entry.end - entry.begin;
      if (bytes % size != 0 || bytes / size != static_cast<std::uint64_t>(*count)) {
        fail(fmt::format("{} {} does not fit its {} bytes", entry.dtype, shape_text(entry.shape), bytes));
      }
    }
    covered = entry.end;
    previous = &name;
  }
  if (covered != data_size) {
    throw FormatError(where_, fmt::format("holds {} bytes behind its last tensor", data_size - covered), damaged);
  }
}

TensorView SafetensorsFile::tensor(std::string_view name) const {
  const auto found = entries_.find(std::string(name));
  if (found == entries_.end()) {
    throw FormatError(where_, fmt::format("there is no tensor '{}'", name),
                      "the checkpoint is incomplete, or of another model");
  }
  const Entry& entry = found->second;
  const auto dtype = dtype_from_name(entry.dtype);
  if (!dtype) {
    throw UnsupportedError(tensor_place(where_, name), fmt::format("its type '{}' is not supported", entry.dtype),
                           "use an unquantized checkpoint in F32, F16 or BF16");
  }
  return {found->first, *dtype, entry.shape, data_.subspan(entry.begin, entry.end - entry.begin), where_};
}

std::int64_t TensorView::stored_row(std::int64_t row) const {
  if (rope_pairs == 0) return row;
  const std::int64_t half = rope_pairs / 2;
  const std::int64_t channel = row % rope_pairs;
  return row - channel + 2 * (channel % half) + channel / half;
}

TensorView TensorView::rows(std::int64_t first, std::int64_t count) const {
  if (shape.empty() || first < 0 || count < 0 || first > shape.front() - count) {
    throw std::out_of_range(fmt::format("tensor '{}' has no rows {} to {}", name, first, first + count - 1));
  }
  if (rope_pairs > 0 && (first % rope_pairs != 0 || count % rope_pairs != 0)) {
    throw std::logic_error(fmt::format("rows {} to {} of tensor '{}' are not whole heads", first, first + count, name));
  }
  TensorView part = *this;
  part.shape.front() = count;
  const std::size_t row_bytes = shape.front() == 0 ? 0 : bytes.size() / static_cast<std::size_t>(shape.front());
  part.bytes = bytes.subspan(static_cast<std::size_t>(first) * row_bytes, static_cast<std::size_t>(count) * row_bytes);
  return part;
}

void refuse_not_finite(const TensorView& view) {
  constexpr double largest = std::numeric_limits<float>::max();
  for (std::size_t at = 0; view.dtype == DType::f64 && at + sizeof(double) <= view.bytes.size(); at += sizeof(double)) {
    double value = 0;
    std::memcpy(&value, view.bytes.data() + at, sizeof value);
    if (!std::isfinite(value) || std::fabs(value) <= largest) continue;
    throw UnsupportedError(
        view.file,
        fmt::format("tensor '{}' holds {}, beyond the range of float32, in which it is computed with", view.name,
                    value),
        "get the model in F32, F16 or BF16");
  }
  throw FormatError(view.file, fmt::format("tensor '{}' holds NaN or infinity", view.name),
                    "the file is damaged or its training diverged: download or export it again");
}

void expect_tensor(const TensorView& view, const TensorDeclaration& declaration) {
  if (view.dtype == declaration.dtype && view.shape == declaration.shape) return;
  throw FormatError(tensor_place(view.file, view.name),
                    fmt::format("is {} {}, expected {} {}", dtype_name(view.dtype), shape_text(view.shape),
                                dtype_name(declaration.dtype), shape_text(declaration.shape)),
                    "the file does not belong to its config.json, or is damaged");
}

}  // namespace pq::io
