#include <fmt/format.h>
#include <fmt/ranges.h>

#include <stdexcept>
#include <unordered_set>
#include <utility>

#include "base/json.h"
#include "io/safetensors.h"

namespace pq::io {

SafetensorsWriter::SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorDeclaration> declarations,
                                     const std::map<std::string, std::string>& metadata)
    : SafetensorsWriter(OutputFile(path), std::move(declarations), metadata) {}

SafetensorsWriter::SafetensorsWriter(OutputFile file, std::vector<TensorDeclaration> declarations,
                                     const std::map<std::string, std::string>& metadata)
    : where_(file.path().string()), declarations_(std::move(declarations)), file_(std::move(file)) {
  std::string header = "{\"__metadata__\":" + Json(metadata).dump();
  std::uint64_t offset = 0;
  std::unordered_set<std::string> seen;
  for (const TensorDeclaration& declaration : declarations_) {
    if (!seen.insert(declaration.name).second) {
      throw std::logic_error(fmt::format("{}: tensor '{}' is declared twice", where_, declaration.name));
    }
    const std::uint64_t end = offset + declaration.byte_count();
    header +=
        fmt::format(",{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", Json(declaration.name).dump(),
                    dtype_name(declaration.dtype), fmt::join(declaration.shape, ","), offset, end);
    offset = end;
  }
  header += '}';
  header.resize((header.size() + 7) / 8 * 8, ' ');
  std::array<std::byte, 8> length{};
  for (std::size_t i = 0; i < length.size(); ++i) length[i] = static_cast<std::byte>(header.size() >> (8 * i) & 0xff);
  file_.write(length);
  file_.write(header);
  if (!declarations_.empty()) left_ = declarations_[0].byte_count();
  skip_complete();
}

void SafetensorsWriter::skip_complete() {
  while (current_ < declarations_.size() && left_ == 0) {
    ++current_;
    left_ = current_ < declarations_.size() ? declarations_[current_].byte_count() : 0;
  }
}

void SafetensorsWriter::append(std::string_view name, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const std::string_view expected =
      current_ < declarations_.size() ? std::string_view(declarations_[current_].name) : "none";
  if (name != expected || bytes.size() > left_) {
    throw std::logic_error(fmt::format("{}: {} bytes of tensor '{}' were given, but {} of '{}' come next", where_,
                                       bytes.size(), name, left_, expected));
  }
  file_.write(bytes);
  left_ -= bytes.size();
  skip_complete();
}

void SafetensorsWriter::finish() {
  if (current_ < declarations_.size()) {
    throw std::logic_error(fmt::format("{}: tensor '{}' is incomplete, {} bytes are missing", where_,
                                       declarations_[current_].name, left_));
  }
  file_.finish();
}

}  // namespace pq::io
