#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/half.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "io/ggml_blocks.h"
#include "io/model_directory.h"
#include "io/safetensors.h"

namespace pq::io {
namespace {

namespace fs = std::filesystem;

template <typename Element, typename Convert>
void convert(std::span<const std::byte> bytes, std::span<float> out, Convert to_float) {
  for (std::size_t i = 0; i < out.size(); ++i) {
    Element element;
    std::memcpy(&element, bytes.data() + i * sizeof(Element), sizeof(Element));
    out[i] = to_float(element);
  }
}

/// Elements [first, first + out.size()) in the order of the bytes, which may stand at any address; whole blocks.
void convert_elements(const TensorView& view, std::size_t first, std::span<float> out) {
  const std::size_t block = dtype_block(view.dtype);
  const auto bytes =
      view.bytes.subspan(first / block * dtype_size(view.dtype), out.size() / block * dtype_size(view.dtype));
  switch (view.dtype) {
    case DType::f32:
      return convert<float>(bytes, out, [](float value) { return value; });
    case DType::f16:
      return convert<std::uint16_t>(bytes, out, [](std::uint16_t bits) { return f16_to_float(bits); });
    case DType::bf16:
      return convert<std::uint16_t>(bytes, out, [](std::uint16_t bits) { return bf16_to_float(bits); });
    case DType::f64:
      return convert<double>(bytes, out, [](double value) { return static_cast<float>(value); });
    default:
      dequantize_blocks(view.dtype, bytes, out);
      if (!view.round_to_bf16) return;
      for (float& value : out) value = bf16_to_float(float_to_bf16(value));
  }
}

void convert_rows(const TensorView& view, std::int64_t first_row, std::int64_t row_size, std::span<float> out) {
  if (!is_floating(view.dtype)) {
    throw UnsupportedError(fmt::format("{}: tensor '{}'", view.file, view.name),
                           fmt::format("is {}, not a floating-point tensor", dtype_name(view.dtype)),
                           "use an unquantized checkpoint in F32, F16 or BF16");
  }
  if (out.empty()) return;
  constexpr std::size_t piece = std::size_t{1} << 16;
  if (view.rope_pairs == 0) {
    const auto first = static_cast<std::size_t>(first_row * row_size);
    const std::size_t block = dtype_block(view.dtype);
    parallel_for(out.size() / block, piece / block, [&](std::size_t begin, std::size_t end) {
      convert_elements(view, first + begin * block, out.subspan(begin * block, (end - begin) * block));
    });
    return;
  }
  const auto size = static_cast<std::size_t>(row_size);
  parallel_for(out.size() / size, std::max<std::size_t>(1, piece / size), [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) {
      const std::int64_t row = view.stored_row(first_row + static_cast<std::int64_t>(i));
      convert_elements(view, static_cast<std::size_t>(row) * size, out.subspan(i * size, size));
    }
  });
}

/// A shard's name must not lead out of the directory.
bool is_plain_file_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
}

}  // namespace

ShardedTensors::ShardedTensors(const fs::path& directory) {
  const fs::path single = directory / "model.safetensors";
  const fs::path index_path = directory / "model.safetensors.index.json";
  if (exists_or_dangles(single)) {
    where_ = single.string();
    take_whole(single);
    return;
  }
  if (!exists_or_dangles(index_path)) {
    const std::vector<std::string> shards = shards_without_index(directory);
    if (shards.empty()) check_model_directory(directory);
    log_warning("{}: there is no model.safetensors.index.json; its {} shards are taken for what they hold",
                directory.string(), shards.size());
    where_ = (directory / shards.front()).string();
    for (const std::string& shard : shards) take_whole(directory / shard);
    return;
  }
  where_ = index_path.string();
  const Json index = read_json_file(index_path);
  if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object()) {
    throw FormatError(where_, "has no 'weight_map' object", "fetch the file again");
  }
  std::unordered_map<std::string, std::size_t> shard_number;
  for (const auto& [name, value] : index["weight_map"].items()) {
    const auto fail = [&, &tensor = name](std::string_view what) {
      throw FormatError(fmt::format("{}: tensor '{}'", where_, tensor), what, "fetch the checkpoint again");
    };
    if (!value.is_string()) fail("its shard is not a string");
    const auto& shard = value.get_ref<const std::string&>();
    if (!is_plain_file_name(shard)) fail(fmt::format("its shard '{}' is not a plain file name", shard));
    auto found = shard_number.find(shard);
    if (found == shard_number.end()) {
      if (!exists_or_dangles(directory / shard)) {
        throw InputError((directory / shard).string(),
                         fmt::format("is missing, one of the shards that {} lists", index_path.filename().string()),
                         how_to_download(directory));
      }
      found = shard_number.emplace(shard, shards_.size()).first;
      shards_.emplace_back(directory / shard);
    }
    if (!shards_[found->second].has(name)) fail(fmt::format("is not in its shard {}", shard));
    shard_of_.emplace(name, found->second);
  }
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    for (const std::string& name : shards_[i].names()) {
      const auto found = shard_of_.find(name);
      if (found != shard_of_.end() && found->second == i) names_.push_back(name);
    }
  }
}

void ShardedTensors::take_whole(const fs::path& file) {
  shards_.emplace_back(file);
  for (const std::string& name : shards_.back().names()) {
    if (!shard_of_.emplace(name, shards_.size() - 1).second) {
      throw FormatError(fmt::format("{}: tensor '{}'", file.string(), name), "stands in another shard too",
                        "the shards are not of one model: get all of them again");
    }
    names_.push_back(name);
  }
}

TensorView ShardedTensors::tensor(std::string_view name) const {
  const auto found = shard_of_.find(std::string(name));
  if (found == shard_of_.end()) {
    throw FormatError(where_, fmt::format("there is no tensor '{}'", name),
                      "the checkpoint is incomplete, or of another model");
  }
  return shards_[found->second].tensor(name);
}

void to_float32(const TensorView& view, std::span<float> out) {
  if (static_cast<std::int64_t>(out.size()) != view.size()) {
    throw std::logic_error(fmt::format("tensor '{}' has {} elements, not {}", view.name, view.size(), out.size()));
  }
  const std::int64_t rows = view.shape.empty() ? 1 : view.shape[0];
  convert_rows(view, 0, rows == 0 ? 0 : view.size() / rows, out);
}

void rows_to_float32(const TensorView& view, std::int64_t first_row, std::int64_t row_count, std::span<float> out) {
  const std::int64_t rows = view.shape.empty() ? 0 : view.shape[0];
  const std::int64_t row_size = rows == 0 ? 0 : view.size() / rows;
  if (first_row < 0 || row_count < 0 || row_count > rows || first_row > rows - row_count ||
      static_cast<std::int64_t>(out.size()) != row_count * row_size) {
    throw std::logic_error(fmt::format("tensor '{}' {}: {} rows from row {} do not fill {} elements", view.name,
                                       shape_text(view.shape), row_count, first_row, out.size()));
  }
  convert_rows(view, first_row, row_size, out);
}

}  // namespace pq::io
