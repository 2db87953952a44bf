#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace pq {

/// All that can be read from a file or a pipe, as text; gzip (recognized by its first two bytes) is decompressed.
/// Throws InputError (not there, a directory), SystemError (cannot read), FormatError (damaged gzip).
std::string read_text_file(const std::filesystem::path& path);

/// A file being written front to back. Every short write is an error that names the file (disk full: SystemError).
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }
  std::uint64_t size() const noexcept { return size_; }
  const std::filesystem::path& path() const noexcept { return path_; }
  /// Flushes to the disk and closes; throws SystemError when the system reports a late write error.
  void finish();

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

/// Writes `text` beside `path` (PATH.partial) and renames it into place, so that the old file or the new one is there,
/// never half of one, also after a power failure.
void write_file_atomically(const std::filesystem::path& path, std::string_view text);
/// The same for a file that `write` fills; what it throws leaves the old file as it was.
void write_file_atomically(const std::filesystem::path& path, const std::function<void(OutputFile&)>& write);

/// What a run that ends without commit() leaves.
enum class Unfinished {
  discard,  ///< nothing
  keep,     ///< OUT.partial/resume, when something is in it; the next run finds it there
};

/// A directory that appears whole or not at all: work goes to `OUT.partial`, commit() renames it to OUT.
/// A finished OUT is refused unless `replace` is set, in which case it is removed only when its successor is complete.
class OutputDirectory {
 public:
  /// Throws InputError when `path` exists and `replace` is not set, when it is not a directory that this program wrote
  /// (`marker` names a file that such a directory holds), when another process writes to OUT.partial, or when that
  /// holds unfinished work (a folder `resume` that is not empty) and `unfinished` is discard; with `replace_unfinished`
  /// such work is removed instead, whatever `unfinished` says. SystemError when OUT.partial cannot be made.
  OutputDirectory(std::filesystem::path path, std::string_view marker, bool replace,
                  Unfinished unfinished = Unfinished::discard, bool replace_unfinished = false);
  /// Throws the InputErrors of the constructor, but for another process at work, and makes nothing: to refuse before
  /// long work.
  static void check(const std::filesystem::path& path, std::string_view marker, bool replace,
                    Unfinished unfinished = Unfinished::discard, bool replace_unfinished = false);
  /// Without commit(), removes what was written, except for what `Unfinished` keeps.
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  const std::filesystem::path& partial() const noexcept { return partial_; }
  const std::filesystem::path& path() const noexcept { return path_; }
  /// Where unfinished work belongs; made by whoever saves some. commit() removes it once OUT is in place.
  std::filesystem::path resume() const { return partial_ / "resume"; }
  void commit();

 private:
  void clear(bool keep_resume) noexcept;

  std::filesystem::path path_;
  std::filesystem::path partial_;
  Unfinished unfinished_;
  int lock_ = -1;
  bool replace_ = false;
  bool committed_ = false;
};

}  // namespace pq
