#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "tokenizer/tokenizer.h"

namespace pq::exchange {

/// A tokenizer.json that puts `ids` in front of every text that it encodes with special tokens: before what its
/// post-processor adds already. Throws UnsupportedError for a post-processor that has no room for them.
Json with_prefix(Json tokenizer_json, std::span<const std::int32_t> ids, const Tokenizer& tokenizer,
                 std::string_view where);

/// A chat template that begins with the prefix's text. Nothing where that text does not encode to exactly `ids`, or
/// what follows could join its last token: then a chat cannot begin with the prefix.
std::optional<std::string> chat_template_with_prefix(const std::string& chat_template, std::string_view prefix_text,
                                                     std::span<const std::int32_t> ids, const Tokenizer& tokenizer);

}  // namespace pq::exchange
