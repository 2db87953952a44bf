#include "io/sealed_tensors.h"

#include <fmt/format.h>

#include <stdexcept>
#include <utility>

#include "base/error.h"
#include "base/files.h"
#include "io/content_hash.h"

namespace pq::io {
namespace {

constexpr const char* content_key = "content";

void add_tensor(ContentHasher& hasher, const TensorDeclaration& declaration, std::span<const std::byte> bytes) {
  hasher.add_text(declaration.name);
  hasher.add_text(dtype_name(declaration.dtype));
  hasher.add_text(shape_text(declaration.shape));
  hasher.add(bytes);
}

void add_metadata(ContentHasher& hasher, const std::map<std::string, std::string>& metadata) {
  for (const auto& [key, value] : metadata) {
    if (key == content_key) continue;
    hasher.add_text(key);
    hasher.add_text(value);
  }
}

}  // namespace

void write_sealed_tensors(const std::filesystem::path& path, std::span<const TensorBytes> tensors,
                          std::map<std::string, std::string> metadata) {
  ContentHasher hasher;
  add_metadata(hasher, metadata);
  std::vector<TensorDeclaration> declarations;
  for (const TensorBytes& tensor : tensors) {
    if (tensor.bytes.size() != tensor.declaration.byte_count()) {
      throw std::logic_error(fmt::format("tensor '{}' has {} bytes, not the {} of its shape", tensor.declaration.name,
                                         tensor.bytes.size(), tensor.declaration.byte_count()));
    }
    add_tensor(hasher, tensor.declaration, tensor.bytes);
    declarations.push_back(tensor.declaration);
  }
  metadata[content_key] = hasher.digits();
  write_file_atomically(path, [&](OutputFile& file) {
    SafetensorsWriter writer(std::move(file), std::move(declarations), metadata);
    for (const TensorBytes& tensor : tensors) writer.append(tensor.declaration.name, tensor.bytes);
    writer.finish();
  });
}

SealedTensors::SealedTensors(const std::filesystem::path& path) : tensors_(path) {
  ContentHasher hasher;
  add_metadata(hasher, tensors_.metadata());
  for (const std::string& name : tensors_.names()) {
    const TensorView view = tensors_.tensor(name);
    add_tensor(hasher, {view.name, view.dtype, view.shape}, view.bytes);
  }
  if (metadata(content_key) != hasher.digits()) {
    throw FormatError(tensors_.file(), "its contents are not those that were written", "the file is damaged");
  }
}

const std::string& SealedTensors::metadata(const std::string& key) const {
  const auto found = tensors_.metadata().find(key);
  if (found == tensors_.metadata().end()) {
    throw FormatError(tensors_.file(), fmt::format("has no metadata entry '{}'", key), "the file is damaged");
  }
  return found->second;
}

}  // namespace pq::io
