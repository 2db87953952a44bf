#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "io/safetensors.h"

namespace pq::io {

struct TensorBytes {
  TensorDeclaration declaration;
  std::span<const std::byte> bytes;
};

/// A safetensors file that appears whole or not at all, and whose metadata holds a hash of all the rest (entry
/// "content"). Throws SystemError when the disk is full, what was at `path` stays then; std::logic_error for bytes that
/// do not have their declaration's size or a name declared twice.
void write_sealed_tensors(const std::filesystem::path& path, std::span<const TensorBytes> tensors,
                          std::map<std::string, std::string> metadata);

/// Such a file, mapped. Opening throws FormatError when the file does not have the contents that were written.
class SealedTensors {
 public:
  explicit SealedTensors(const std::filesystem::path& path);
  TensorView tensor(std::string_view name) const { return tensors_.tensor(name); }
  /// In the order in which they were written.
  const std::vector<std::string>& names() const { return tensors_.names(); }
  /// Throws FormatError when there is no such entry.
  const std::string& metadata(const std::string& key) const;

 private:
  SafetensorsFile tensors_;
};

}  // namespace pq::io
