#include "base/input_stream.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/error.h"

namespace pq {
namespace {

constexpr std::size_t piece_bytes = std::size_t{1} << 18;
constexpr std::string_view byte_order_mark = "\xef\xbb\xbf";

/// Appends the next piece; false at the end.
bool read_piece(int fd, std::string& bytes, std::string_view where) {
  const std::size_t held = bytes.size();
  bytes.resize(held + piece_bytes);
  ssize_t got = 0;
  do {
    got = ::read(fd, bytes.data() + held, piece_bytes);
  } while (got < 0 && errno == EINTR);
  const int code = errno;
  bytes.resize(held + static_cast<std::size_t>(got < 0 ? 0 : got));
  if (got < 0) {
    errno = code;
    throw_errno(where, "cannot read", "check what it is connected to");
  }
  return got > 0;
}

class OpenFile {
 public:
  explicit OpenFile(const std::filesystem::path& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd_ < 0 && (errno == ENOENT || errno == ENOTDIR))
      throw InputError(path.string(), "no such file", "check the path");
    if (fd_ < 0) throw_errno(path.string(), "cannot open", "check the path and its permissions");
  }
  ~OpenFile() { ::close(fd_); }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  int fd() const noexcept { return fd_; }

 private:
  int fd_;
};

}  // namespace

std::string read_to_end(int fd, std::string_view where) {
  std::string bytes;
  struct stat info {};
  if (::fstat(fd, &info) == 0 && S_ISREG(info.st_mode) && info.st_size > 0)
    bytes.reserve(static_cast<std::size_t>(info.st_size) + piece_bytes);
  while (read_piece(fd, bytes, where)) {
  }
  return bytes;
}

std::string read_bytes(const std::filesystem::path& path) {
  const OpenFile file(path);
  struct stat info {};
  if (::fstat(file.fd(), &info) == 0 && S_ISDIR(info.st_mode))
    throw InputError(path.string(), "is a directory", "name a file");
  return read_to_end(file.fd(), path.string());
}

LineReader::LineReader(int fd, std::string_view where) : fd_(fd), where_(where) {}

bool LineReader::fill() {
  held_.erase(0, begin_);
  begin_ = 0;
  ended_ = !read_piece(fd_, held_, where_);
  return !ended_;
}

bool LineReader::has_line() const { return ended_ || held_.find('\n', begin_) != std::string::npos; }

bool LineReader::next(std::string& line) {
  std::size_t searched = begin_;
  std::size_t end = held_.find('\n', searched);
  while (end == std::string::npos && !ended_) {
    searched = held_.size() - begin_;
    fill();
    end = held_.find('\n', searched);
  }
  if (end == std::string::npos && begin_ == held_.size()) return false;
  const std::size_t after = end == std::string::npos ? held_.size() : end + 1;
  std::string_view text = std::string_view(held_).substr(begin_, std::min(end, held_.size()) - begin_);
  if (text.ends_with('\r')) text.remove_suffix(1);
  if (count_ == 0 && text.starts_with(byte_order_mark)) text.remove_prefix(byte_order_mark.size());
  line.assign(text);
  begin_ = after;
  ++count_;
  return true;
}

std::string LineReader::place() const { return fmt::format("{}, line {}", where_, count_); }

}  // namespace pq
