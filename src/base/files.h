#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace pq {

/// The whole file as text; a gzip file (recognized by its first two bytes) is decompressed.
/// Throws SystemError (cannot read), FormatError (damaged gzip).
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
  /// Flushes to the disk and closes; throws SystemError when the system reports a late write error.
  void finish();

 private:
  std::filesystem::path path_;
  int fd_ = -1;
  std::uint64_t size_ = 0;
};

/// Writes `text` beside `path` and renames it into place, so that the old file or the new one is there, never half of
/// one.
void write_file_atomically(const std::filesystem::path& path, std::string_view text);
/// The same for a file that `write` fills; what it throws leaves the old file as it was.
void write_file_atomically(const std::filesystem::path& path, const std::function<void(OutputFile&)>& write);

/// A directory that appears whole or not at all: work goes to `OUT.partial`, commit() renames it to OUT.
/// A finished OUT is refused unless `replace` is set, in which case it is removed only when its successor is complete.
class OutputDirectory {
 public:
  /// Throws InputError when `path` exists and `replace` is not set, or when it is not a directory that this program
  /// wrote
  /// (`marker` names a file that such a directory holds); SystemError when OUT.partial cannot be made.
  OutputDirectory(std::filesystem::path path, std::string_view marker, bool replace);
  /// Throws the InputErrors of the constructor and makes nothing: to refuse before long work.
  static void check(const std::filesystem::path& path, std::string_view marker, bool replace);
  /// Without commit(), removes what was written.
  ~OutputDirectory();
  OutputDirectory(const OutputDirectory&) = delete;
  OutputDirectory& operator=(const OutputDirectory&) = delete;

  const std::filesystem::path& partial() const noexcept { return partial_; }
  const std::filesystem::path& path() const noexcept { return path_; }
  void commit();

 private:
  std::filesystem::path path_;
  std::filesystem::path partial_;
  int lock_ = -1;
  bool replace_ = false;
  bool committed_ = false;
};

}  // namespace pq
