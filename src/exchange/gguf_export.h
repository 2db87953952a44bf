#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "exchange/block_encoding.h"
#include "exchange/gguf_verification.h"
#include "io/dtype.h"
#include "io/quantized_checkpoint.h"

namespace pq::exchange {

struct GgufOptions {
  bool replace = false;  ///< an export of this program that stands at the path
  ScaleRounding scales = ScaleRounding::refuse;
  std::string name = {};  ///< general.name
};

struct GgufExport {
  std::uint64_t bytes = 0;
  std::size_t tensors = 0;
  io::DType weights = io::DType::f16;
  std::vector<std::string> left_out;  ///< of the recipe and the model, for people
  WeightDifference difference;        ///< nothing but with ScaleRounding::round
};

/// Keys of a GGUF file that are ours; other programs keep and ignore them.
namespace gguf_keys {
inline constexpr const char* format_version = "prefixquant.format_version";
inline constexpr const char* prefix_token_ids = "prefixquant.prefix.token_ids";
inline constexpr const char* prefix_text = "prefixquant.prefix.text";
inline constexpr const char* recipe = "prefixquant.recipe";
}  // namespace gguf_keys

/// Refuses, before any work, what may not be written to: throws InputError where something stands at `path` that
/// `replace` does not allow to go, which is anything but a GGUF file with our keys.
void check_gguf_target(const std::filesystem::path& path, bool replace);

/// Writes a quantized checkpoint as one GGUF file, block by block; it is read back and compared (verify_gguf) before it
/// gets its name. Throws UnsupportedError for what GGUF cannot hold, naming the recipe's field and a command that makes
/// a checkpoint which it can; InputError for the target; SystemError for the disk. Nothing half-written appears.
GgufExport export_gguf(const io::QuantizedCheckpoint& checkpoint, const std::filesystem::path& path,
                       const GgufOptions& options);

}  // namespace pq::exchange
