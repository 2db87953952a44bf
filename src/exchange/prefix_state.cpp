#include "exchange/prefix_state.h"

#include <fmt/format.h>

#include <cstring>
#include <fstream>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/files.h"
#include "base/index.h"
#include "base/text_files.h"
#include "exchange/gguf_export.h"
#include "exchange/gguf_keys.h"
#include "io/gguf_checkpoint.h"
#include "io/gguf_metadata.h"
#include "io/hf_checkpoint.h"
#include "io/safetensors.h"
#include "tokenizer/tokenizer.h"

namespace pq::exchange {
namespace {

namespace fs = std::filesystem;

constexpr std::uint32_t magic = 0x67677371;  // "ggsq"
constexpr std::int32_t type_f16 = 1;
constexpr std::uint32_t first_version_with_rotations = 4;

template <typename T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

/// [kv_heads, p, d] -> p rows of all heads, channels in the order asked for.
void put_rows(std::string& out, const std::vector<std::uint16_t>& heads, const ModelSpec& spec, std::int64_t length,
              bool rope_pairs) {
  io::TensorView order;
  order.rope_pairs = rope_pairs ? spec.head_dim : 0;
  std::vector<std::uint16_t> row(index(spec.kv_size()));
  for (std::int64_t position = 0; position < length; ++position) {
    for (std::int64_t head = 0; head < spec.kv_head_count; ++head) {
      const std::uint16_t* from = heads.data() + (head * length + position) * spec.head_dim;
      for (std::int64_t channel = 0; channel < spec.head_dim; ++channel) {
        row[index(head * spec.head_dim + order.stored_row(channel))] = from[channel];
      }
    }
    out.append(reinterpret_cast<const char*>(row.data()), row.size() * sizeof(std::uint16_t));
  }
}

[[noreturn]] void another_model(const fs::path& beside, std::string_view what) {
  throw InputError(beside.string(), fmt::format("is not of the model that was quantized: {}", what),
                   "name a GGUF file of the same model");
}

void check_tokens(const io::QuantizedCheckpoint& checkpoint, const TextFiles& texts, const fs::path& beside) {
  const Tokenizer ours = Tokenizer::load(TextFiles(checkpoint.directory()));
  const Tokenizer theirs = Tokenizer::load(texts);
  for (const std::int32_t id : checkpoint.prefix().token_ids) {
    if (ours.token_text(id) == theirs.token_text(id)) continue;
    another_model(beside, fmt::format("token {} is {} there, and {} here", id, Json(theirs.token_text(id)).dump(),
                                      Json(ours.token_text(id)).dump()));
  }
}

/// Which basis the values of a GGUF file are in: R2's where this program exported it from a checkpoint with it.
ValueBasis basis_of(const fs::path& beside, const Recipe& recipe) {
  const io::GgufFile file(beside);
  const auto text = io::GgufMetadata(file).text(gguf_keys::recipe);
  if (!text) return ValueBasis::model;
  const Recipe theirs = recipe_from_json(parse_json(*text, beside.string()), beside.string());
  if (!theirs.rotate.r2) return ValueBasis::model;
  const bool same = recipe.rotate.r2 && recipe.rotate.signs == theirs.rotate.signs &&
                    (!recipe.rotate.signs || recipe.seed == theirs.seed);
  if (same) return ValueBasis::checkpoint;
  throw InputError(
      beside.string(),
      "was exported from a checkpoint whose values are rotated in another way (rotate.r2, rotate.signs, seed)",
      "make the state from that checkpoint");
}

ValueBasis check_beside(const io::QuantizedCheckpoint& checkpoint, const fs::path& beside) {
  const io::HfCheckpoint other = io::HfCheckpoint::open(beside.string());
  try {
    compare_specs(checkpoint.spec(), other.spec(), true);
  } catch (const std::logic_error& error) {
    another_model(beside, error.what());
  }
  check_tokens(checkpoint, other.texts(), beside);
  return basis_of(beside, checkpoint.recipe());
}

}  // namespace

std::string sequence_state(const Prefix& plain, const ModelSpec& spec, bool rope_pairs, std::uint32_t version) {
  const auto length = static_cast<std::uint32_t>(plain.length);
  std::string out;
  put(out, magic);
  put(out, version);
  put(out, length);
  for (const std::int32_t id : plain.token_ids) put(out, id);
  put(out, std::uint32_t{1});  // streams
  put(out, length);            // cells
  for (std::uint32_t position = 0; position < length; ++position) {
    put(out, static_cast<std::int32_t>(position));
    put(out, std::uint32_t{1});  // sequences that see the cell
    put(out, std::int32_t{0});   // this one
  }
  put(out, std::uint32_t{0});  // V is not transposed
  put(out, static_cast<std::uint32_t>(plain.blocks.size()));
  if (version >= first_version_with_rotations) {
    for (int k_and_v = 0; k_and_v < 2; ++k_and_v) put(out, std::uint32_t{0});  // order of the Hadamard matrix
  }
  const auto row_bytes = static_cast<std::uint64_t>(spec.kv_size()) * sizeof(std::uint16_t);
  for (const bool keys : {true, false}) {
    for (const Prefix::BlockKv& block : plain.blocks) {
      put(out, type_f16);
      put(out, row_bytes);
      put_rows(out, keys ? block.key : block.value, spec, plain.length, keys && rope_pairs);
    }
  }
  return out;
}

void check_state_target(const fs::path& path, bool replace) {
  if (path.empty() || !path.has_filename()) {
    throw InputError(path.string(), "is no name of a file", "give one, for example -o prefix.state");
  }
  if (!exists_or_dangles(path)) return;
  std::uint32_t head = 0;
  std::error_code code;
  if (fs::is_regular_file(fs::symlink_status(path, code))) {
    std::ifstream(path, std::ios::binary).read(reinterpret_cast<char*>(&head), sizeof(head));
  }
  if (head != magic)
    throw InputError(path.string(), "exists, and is no sequence state of llama.cpp",
                     "choose another name, or remove it");
  if (!replace) throw InputError(path.string(), "exists already", "choose another name, or replace it with --force");
}

PrefixState export_prefix_state(const io::QuantizedCheckpoint& checkpoint, const fs::path& path,
                                const PrefixStateOptions& options) {
  const std::string where = checkpoint.directory().string();
  const ModelSpec& spec = checkpoint.spec();
  const io::GgufArchitecture& architecture = architecture_for(spec, where);
  if (options.version < oldest_state_version || options.version > newest_state_version) {
    throw InputError(fmt::format("--llama-state-version {}", options.version), "is a version whose bytes are not known",
                     fmt::format("{} to {} are", oldest_state_version, newest_state_version));
  }
  if (checkpoint.prefix().empty()) throw InputError(where, "has no prefix", "quantize again with --prefix auto");
  if (checkpoint.prefix().token_ids.empty()) {
    throw UnsupportedError(where, "has a prefix that comes from no known tokens, and llama.cpp asks for them",
                           "quantize again with --prefix auto");
  }
  if (spec.largest_window() > 0 && !drops_windows(spec, architecture)) {
    throw UnsupportedError(where, "has blocks with a sliding window, for which llama.cpp keeps a second cache",
                           "put the prefix's tokens in front of the text instead");
  }
  check_state_target(path, options.replace);
  PrefixState result;
  if (options.beside) result.basis = check_beside(checkpoint, *options.beside);
  const std::string state =
      sequence_state(plain_prefix(checkpoint, result.basis), spec, architecture.rope_pairs, options.version);
  write_file_atomically(path, state);
  result.positions = checkpoint.prefix().length;
  result.bytes = state.size();
  return result;
}

}  // namespace pq::exchange
