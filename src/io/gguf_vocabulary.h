#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace pq::io {

// What GGUF says of a vocabulary, for reading and for writing.

/// `tokenizer.ggml.token_type`.
enum class TokenType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

/// Where a pre-tokenizer cuts: by one pattern, or by GPT-2's own.
struct PreTokenizerRow {
  std::string_view names;  ///< of tokenizer.ggml.pre, with spaces between
  std::string_view pattern;
  bool digits = false;  ///< every digit stands alone first
  bool nfc = false;
  bool ignore_merges = false;  ///< a word that is a token is taken whole
  bool bos_by_default = false;
  std::string_view written = {};  ///< the name that is written for such a pre-tokenizer; empty: the first
};

std::span<const PreTokenizerRow> pre_tokenizer_rows();
/// The row of a name of tokenizer.ggml.pre; null without one.
const PreTokenizerRow* find_pre_tokenizer(std::string_view name);

}  // namespace pq::io
