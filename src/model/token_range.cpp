#include "model/token_range.h"

#include <fmt/format.h>

#include "base/error.h"

namespace pq {

void check_token(std::int64_t token, const ModelSpec& spec, std::string_view where) {
  if (in_vocabulary(token, spec)) return;
  throw InputError(where, fmt::format("token id {} is outside the vocabulary of {}", token, spec.vocab_size),
                   "use the tokenizer that belongs to this model");
}

}  // namespace pq
