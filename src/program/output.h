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

/// print_result() and flush_stdout(): for text that a reader should see while more is being made.
void stream_result(std::string_view text);

/// Whether a write has failed. Every later one fails in the same way.
bool stdout_is_broken();

/// Puts something that can be neither read nor written in the place of a standard stream that the parent closed, so
/// that no file opened later gets its number and what is meant for the stream.
void occupy_standard_streams();

/// Whoever reads stdout has gone. Not an error, and nobody is left to tell.
struct ReaderGone {};

}  // namespace pq
