#include "program/output.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "base/error.h"
#include "base/launch.h"

namespace pq {
namespace {

/// Of the first write that failed: whoever goes on after it must not be told of success, or of another reason.
int stdout_error = 0;

void require_written(bool is_written) {
  if (!is_written && stdout_error == 0) stdout_error = errno != 0 ? errno : EIO;
  if (stdout_error == 0) return;
  if (stdout_error == EPIPE) throw ReaderGone{};
  errno = stdout_error;
  throw_errno("stdout", "cannot write",
              stdout_error == EBADF ? "it is closed: direct it somewhere" : "free some disk space or write elsewhere");
}

}  // namespace

void print_result(std::string_view text) {
  if (launch().rank != 0) return;
  errno = 0;
  require_written(stdout_error == 0 && std::fwrite(text.data(), 1, text.size(), stdout) == text.size());
}

void stream_result(std::string_view text) {
  print_result(text);
  flush_stdout();
}

void print_json(const Json& json) { print_result(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"); }

void flush_stdout() {
  errno = 0;
  require_written(stdout_error == 0 && std::fflush(stdout) == 0);
}

bool stdout_is_broken() { return stdout_error != 0; }

void occupy_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) >= 0 || errno != EBADF) continue;
    ::open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

}  // namespace pq
