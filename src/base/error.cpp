#include "base/error.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace pq {
namespace {

std::string one_line(std::string text) {
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text;
}

}  // namespace

Error::Error(std::string_view where, std::string_view what, std::string_view remedy)
    : std::runtime_error(one_line(
          fmt::format("{}{}{}{}{}", where, where.empty() ? "" : ": ", what, remedy.empty() ? "" : "; ", remedy))) {}

void throw_errno(std::string_view where, std::string_view action, std::string_view remedy) {
  const int code = errno;
  throw SystemError(where, fmt::format("{}: {}", action, std::strerror(code)), remedy);
}

}  // namespace pq
