#include "program/output.h"

#include <cerrno>
#include <cstdio>

#include "base/error.h"
#include "base/launch.h"

namespace pq {
namespace {

[[noreturn]] void throw_stdout_error() {
  if (errno == EPIPE) throw ReaderGone{};
  throw_errno("stdout", "cannot write", "free some disk space or write elsewhere");
}

}  // namespace

void print_result(std::string_view text) {
  if (launch().rank != 0) return;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) throw_stdout_error();
}

void print_json(const Json& json) { print_result(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"); }

void flush_stdout() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) throw_stdout_error();
}

}  // namespace pq
