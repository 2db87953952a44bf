#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "tokenizer/merge_list.h"
#include "tokenizer/token_table.h"

namespace pq {

/// tokenizer.json as read: the two large parts, model.vocab and model.merges, as tables, everything else as JSON.
struct TokenizerFile {
  nlohmann::json json;
  TokenTable vocab;
  MergeList merges;
};

/// Throws FormatError (not JSON, ids that repeat or are out of range), UnsupportedError (a model type other than BPE).
TokenizerFile read_tokenizer_file(std::string_view text, std::string_view where);

}  // namespace pq
