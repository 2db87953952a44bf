#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "exchange/plain_prefix.h"
#include "io/quantized_checkpoint.h"

namespace pq::exchange {

/// The version that llama.cpp writes into the head of a sequence state; those whose bytes are known. 2 and 3 have the
/// same ones, 4 (October 2026) adds how K and V are rotated, which those of a 16-bit cache are not.
inline constexpr std::uint32_t newest_state_version = 4;
inline constexpr std::uint32_t oldest_state_version = 2;

/// The prefix of a model as the bytes of a llama.cpp sequence state (`llama_state_seq_load_file`, the server's slot
/// restore): tokens, positions 0 .. p-1, then K and V of every layer in binary16, [p, kv_heads * head_dim] each, as a
/// context with flash attention holds them. `rope_pairs`: channels of each head of K stand as rotation pairs, as the
/// architecture's weights do.
std::string sequence_state(const Prefix& plain, const ModelSpec& spec, bool rope_pairs, std::uint32_t version);

struct PrefixStateOptions {
  bool replace = false;
  std::uint32_t version = newest_state_version;
  /// The GGUF file that the state is for; nullopt: an export of the checkpoint itself.
  std::optional<std::filesystem::path> beside = std::nullopt;
};

struct PrefixState {
  std::int64_t positions = 0;
  std::uint64_t bytes = 0;
  ValueBasis basis = ValueBasis::checkpoint;
};

/// Throws InputError where something stands at `path` that is no sequence state, or may not be replaced.
void check_state_target(const std::filesystem::path& path, bool replace);

/// Writes the checkpoint's prefix as a sequence state for its own export, or for a GGUF file that others made of the
/// model: there V stands in the model's own basis, and the file's shapes, rotary embedding and the texts of the prefix
/// tokens are held against the checkpoint's. Throws InputError (no prefix, another model), UnsupportedError (tokens
/// that are not known, a model whose windows llama.cpp keeps in a cache of their own).
PrefixState export_prefix_state(const io::QuantizedCheckpoint& checkpoint, const std::filesystem::path& path,
                                const PrefixStateOptions& options);

}  // namespace pq::exchange
