#pragma once

#include <string_view>

#include "base/json.h"

namespace pq {

/// Writes a result to stdout; of several processes (Launch) the first one alone does. Throws SystemError when stdout
/// cannot take it (disk full), ReaderGone when nobody reads it any more.
void print_result(std::string_view text);

/// `json` on one line of stdout. Not-a-number and infinities become null, bytes that are not UTF-8 the replacement
/// character. Throws as print_result.
void print_json(const Json& json);

/// Hands on to the system what stdout holds back. Throws as print_result.
void flush_stdout();

/// Whoever reads stdout has gone. Not an error, and nobody is left to tell.
struct ReaderGone {};

}  // namespace pq
