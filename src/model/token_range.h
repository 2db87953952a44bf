#pragma once

#include <cstdint>
#include <string_view>

#include "model/model_spec.h"

namespace pq {

/// Whether the model has an embedding for this token id.
inline bool in_vocabulary(std::int64_t token, const ModelSpec& spec) { return token >= 0 && token < spec.vocab_size; }

/// Throws InputError for a token id outside the vocabulary; `where` says what it came from.
void check_token(std::int64_t token, const ModelSpec& spec, std::string_view where = "tokens");

}  // namespace pq
