#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer_file.h"

namespace pq {

/// A tokenizer.json with all its steps ready, and what the files beside it say of special tokens.
struct TokenizerParts {
  TokenizerParts(TokenizerFile file, const JsonFields& root);
  /// The text of a tokenizer.json; `where` names it in errors. Throws FormatError, UnsupportedError.
  static std::shared_ptr<TokenizerParts> parse(std::string_view tokenizer_json, std::string_view where);

  /// The string that decoding starts from; empty optional: no such token.
  std::optional<std::string_view> token(std::int32_t id) const;
  /// The id of a token as tokenizer.json spells it.
  std::optional<std::int32_t> id_of(std::string_view token) const;

  std::string where;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  AddedTokens added;
  BpeModel model;
  PostProcessor post_processor;
  Decoder decoder;
  std::optional<std::int32_t> bos_id;
  std::optional<std::int32_t> eos_id;
  std::optional<std::string> chat_template;
};

}  // namespace pq
