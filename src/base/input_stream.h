#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace pq {

/// Everything that `fd` still has to give: a file, a pipe or a terminal. Throws SystemError naming `where`.
std::string read_to_end(int fd, std::string_view where);

/// The bytes of what stands at `path`: a file, a FIFO, /dev/stdin, what a shell puts in the place of <(...).
/// Throws InputError (not there, a directory), SystemError.
std::string read_bytes(const std::filesystem::path& path);

/// The lines of a stream without their ends, "\n" or "\r\n", and without a byte order mark before the first.
class LineReader {
 public:
  /// `where` names the stream in errors.
  LineReader(int fd, std::string_view where);
  /// False at the end of the stream; a last line needs no end. Throws SystemError.
  bool next(std::string& line);
  /// Whether next() has its answer without waiting for whoever writes the stream.
  bool has_line() const;
  /// How many lines next() has given.
  std::size_t count() const noexcept { return count_; }
  /// "stdin, line 3": the last line, for errors.
  std::string place() const;

 private:
  bool fill();

  int fd_;
  std::string where_;
  std::string held_;
  std::size_t begin_ = 0;  // of what next() has not given yet
  std::size_t count_ = 0;
  bool ended_ = false;
};

}  // namespace pq
