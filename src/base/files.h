#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace pq {

/// All that can be read from a file or a pipe, as text; a gzip file (recognized by its first two bytes) is
/// decompressed. Throws InputError (no such file, or one that holds no text: check_file_kind), SystemError (cannot
/// read), FormatError (damaged gzip).
std::string read_text_file(const std::filesystem::path& path);
/// The same for bytes of any kind.
std::string read_whole_file(const std::filesystem::path& path);

/// Makes the names in a directory last through a power failure.
void sync_directory(const std::filesystem::path& path);
/// "." for a name alone.
std::filesystem::path parent_directory(const std::filesystem::path& path);

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

/// Writes `text` beside `path` (PATH.partial, or another name where that is taken) and renames it into place, so that
/// the old file or the new one is there, never half of one, also after a power failure. Where `path` is a link, the
/// file that it leads to is written.
void write_file_atomically(const std::filesystem::path& path, std::string_view text);
/// The same for a file that `write` fills; what it throws leaves the old file as it was.
void write_file_atomically(const std::filesystem::path& path, const std::function<void(OutputFile&)>& write);

}  // namespace pq
