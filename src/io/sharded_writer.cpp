#include "io/sharded_writer.h"

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

#include "base/files.h"
#include "base/json.h"

namespace pq::io {

namespace fs = std::filesystem;

ShardedWriter::ShardedWriter(fs::path directory, std::vector<TensorDeclaration> layout, std::uint64_t max_shard_bytes)
    : directory_(std::move(directory)), layout_(std::move(layout)) {
  for (const TensorDeclaration& declaration : layout_) tensor_bytes_ += declaration.byte_count();
  plan(max_shard_bytes);
  if (shards_.size() > 1) write_index();
}

void ShardedWriter::plan(std::uint64_t max_shard_bytes) {
  std::uint64_t filled = 0;
  for (std::size_t i = 0; i < layout_.size(); ++i) {
    const std::uint64_t bytes = layout_[i].byte_count();
    if (shards_.empty() || filled + bytes > max_shard_bytes) {
      shards_.push_back({"", i, 0});
      filled = 0;
    }
    ++shards_.back().count;
    filled += bytes;
  }
  for (std::size_t i = 0; i < shards_.size(); ++i) {
    shards_[i].file = shards_.size() == 1 ? "model.safetensors"
                                          : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards_.size());
  }
}

void ShardedWriter::write_index() const {
  Json weight_map = Json::object();
  for (const Shard& shard : shards_) {
    for (std::size_t i = 0; i < shard.count; ++i) weight_map[layout_[shard.first + i].name] = shard.file;
  }
  Json index = Json::object();
  index["metadata"] = {{"total_size", tensor_bytes_}};
  index["weight_map"] = std::move(weight_map);
  OutputFile file(directory_ / "model.safetensors.index.json");
  file.write(index.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  file.finish();
}

void ShardedWriter::append(std::string_view name, std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  const std::uint64_t size = tensor_ < layout_.size() ? layout_[tensor_].byte_count() : 0;
  if (tensor_ >= layout_.size() || name != layout_[tensor_].name || bytes.size() > size - filled_) {
    throw std::logic_error(fmt::format("{} bytes of tensor '{}' were given, but {} of '{}' come next", bytes.size(),
                                       name, size - filled_,
                                       tensor_ < layout_.size() ? layout_[tensor_].name : "none"));
  }
  if (writer_ == nullptr) {
    const Shard& shard = shards_[shard_];
    const auto first = layout_.begin() + static_cast<std::ptrdiff_t>(shard.first);
    writer_ = std::make_unique<SafetensorsWriter>(directory_ / shard.file,
                                                  std::vector(first, first + static_cast<std::ptrdiff_t>(shard.count)));
  }
  writer_->append(name, bytes);
  filled_ += bytes.size();
  if (filled_ < size) return;
  filled_ = 0;
  if (++tensor_ < shards_[shard_].first + shards_[shard_].count) return;
  writer_->finish();
  writer_.reset();
  ++shard_;
}

void ShardedWriter::check_size(std::string_view name, std::uint64_t bytes) const {
  const std::uint64_t size = tensor_ < layout_.size() ? layout_[tensor_].byte_count() : 0;
  if (bytes == size) return;
  throw std::logic_error(
      fmt::format("tensor '{}' has {} bytes of values, not the layout's {} bytes", name, bytes, size));
}

void ShardedWriter::check_complete() const {
  if (tensor_ < layout_.size()) {
    throw std::logic_error(fmt::format("tensor '{}' was not written whole", layout_[tensor_].name));
  }
}

}  // namespace pq::io
