#pragma once

#include <string>

#include "tokenizer/json_fields.h"

namespace pq {

/// "prepend_scheme" and "replacement" of Metaspace, as pre-tokenizer and as decoder.
struct MetaspaceOptions {
  enum class Scheme { always, first, never };
  explicit MetaspaceOptions(const JsonFields& json);
  std::string replacement;  // one character
  Scheme scheme;
  bool split;
};

}  // namespace pq
