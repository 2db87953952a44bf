#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace pq {

/// Base of every error that a user can cause or mend. The message is one line: "WHERE: WHAT; REMEDY".
/// WHERE names the file (and the tensor), REMEDY says what to do and may be empty.
class Error : public std::runtime_error {
 public:
  Error(std::string_view where, std::string_view what, std::string_view remedy = {});
  /// Process exit code for this error.
  int exit_code() const noexcept { return 2; }
};

/// What the user asked for cannot be done: a flag, a path, a text that is too short.
class InputError : public Error {
  using Error::Error;
};
/// A file is not what its format promises: truncated, overlapping, misshapen, not finite.
class FormatError : public Error {
  using Error::Error;
};
/// A file is well formed, but asks for something this program does not compute.
class UnsupportedError : public Error {
  using Error::Error;
};
/// The operating system refused: disk full, no permission, out of memory.
class SystemError : public Error {
  using Error::Error;
};

/// SystemError for the current errno, as "WHERE: ACTION: <text of errno>; REMEDY".
[[noreturn]] void throw_errno(std::string_view where, std::string_view action, std::string_view remedy = {});

}  // namespace pq
