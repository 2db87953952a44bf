#include "io/gguf_vocabulary.h"

#include <fmt/format.h>

#include <array>

namespace pq::io {
namespace {

constexpr std::string_view llama3_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view tekken_pattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view gpt4o_pattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::array<PreTokenizerRow, 9> rows{{
    {.names = "llama-bpe llama3 llama-v3 falcon3 pixtral",
     .pattern = llama3_pattern,
     .ignore_merges = true,
     .bos_by_default = true},
    {.names = "smaug-bpe dbrx", .pattern = llama3_pattern},
    {.names = "qwen2 deepseek-r1-qwen megrez", .pattern = qwen2_pattern, .nfc = true},
    {.names = "stablelm2", .pattern = qwen2_pattern},
    {.names = "tekken", .pattern = tekken_pattern, .ignore_merges = true, .bos_by_default = true},
    {.names = "gpt-4o", .pattern = gpt4o_pattern},
    {.names = "starcoder refact", .pattern = {}, .digits = true, .written = "smollm"},
    {.names = "gpt-2 olmo", .pattern = {}},
    // transformers 5 loads SmolLM2's tokenizer without the split at digits that llama.cpp makes; as no token joins two
    // digits, they differ at characters like a half alone.
    {.names = "smollm", .pattern = {}},
}};

bool names_contain(std::string_view names, std::string_view name) {
  return !name.empty() && name.find(' ') == std::string_view::npos &&
         fmt::format(" {} ", names).find(fmt::format(" {} ", name)) != std::string::npos;
}

}  // namespace

std::span<const PreTokenizerRow> pre_tokenizer_rows() { return rows; }

const PreTokenizerRow* find_pre_tokenizer(std::string_view name) {
  for (const PreTokenizerRow& row : rows) {
    if (names_contain(row.names, name)) return &row;
  }
  return nullptr;
}

}  // namespace pq::io
