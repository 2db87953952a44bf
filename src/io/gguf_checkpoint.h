#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "base/text_files.h"
#include "io/gguf_file.h"
#include "io/safetensors.h"

namespace pq::io {

/// A GGUF file as if it were a Hugging Face directory: the tensors by their names there, and config.json,
/// generation_config.json, tokenizer.json and tokenizer_config.json made from the metadata.
struct GgufCheckpoint {
  std::shared_ptr<const TensorStore> tensors;
  TextFiles texts;
};

/// Opens a GGUF file, of a split model its first one ("NAME-00001-of-00003.gguf"; the others are found beside it).
/// Norms are kept as they multiply, also where Hugging Face's files keep 1 less. Throws InputError (a part that is
/// missing or not the first), FormatError, UnsupportedError (architecture, tokenizer, a tensor that has no place in the
/// architecture).
GgufCheckpoint open_gguf(const std::filesystem::path& path);
/// The same of parts that are open; `path` names them in errors about the texts.
GgufCheckpoint gguf_checkpoint(std::vector<GgufFile> parts, const std::filesystem::path& path);

}  // namespace pq::io
