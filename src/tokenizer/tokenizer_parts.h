#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "tokenizer/added_tokens.h"
#include "tokenizer/bpe.h"
#include "tokenizer/decoder.h"
#include "tokenizer/normalizer.h"
#include "tokenizer/post_processor.h"
#include "tokenizer/pre_tokenizer.h"
#include "tokenizer/tokenizer.h"

namespace pq {

struct Tokenizer::Parts {
  Parts(TokenizerFile file, const JsonFields& root);
  static std::shared_ptr<Parts> parse(std::string_view tokenizer_json, std::string_view where);

  /// The string that decoding starts from; empty optional: no such token.
  std::optional<std::string_view> token(std::int32_t id) const;

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
