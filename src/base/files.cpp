#include "base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/input_stream.h"
#include "base/mapped_file.h"

namespace pq {
namespace {

namespace fs = std::filesystem;

std::string inflate_gzip(std::string_view bytes, const fs::path& path) {
  z_stream stream{};
  if (::inflateInit2(&stream, 15 + 16) != Z_OK) throw SystemError(path.string(), "cannot start decompression", "");
  std::string text;
  std::string buffer(1U << 18, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  std::size_t left = bytes.size();
  int status = Z_OK;
  do {
    if (stream.avail_in == 0 && left > 0) {
      stream.avail_in = static_cast<uInt>(std::min<std::size_t>(left, 1U << 30));
      left -= stream.avail_in;
    }
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    status = ::inflate(&stream, Z_NO_FLUSH);
    if (status != Z_OK && status != Z_STREAM_END) break;
    text.append(buffer.data(), buffer.size() - stream.avail_out);
    if (status == Z_STREAM_END && (stream.avail_in > 0 || left > 0))
      status = ::inflateReset(&stream);  // next gzip member
  } while (status != Z_STREAM_END);
  ::inflateEnd(&stream);
  if (status != Z_STREAM_END) {
    throw FormatError(path.string(), "the gzip data is damaged or cut short",
                      "decompress it with gunzip -t to see where");
  }
  return text;
}

/// Where a file is made that becomes `path`: beside it, under a name that nothing has.
fs::path temporary_path(const fs::path& path) {
  fs::path temporary = path;
  temporary += ".partial";
  for (int number = 1; exists_or_dangles(temporary); ++number) {
    temporary = path;
    temporary += fmt::format(".partial-{}", number);
  }
  return temporary;
}

}  // namespace

std::string read_whole_file(const fs::path& path) {
  std::error_code code;
  std::string bytes;
  if (const auto status = fs::status(path, code); fs::exists(status) && !fs::is_regular_file(status)) {
    bytes = read_bytes(path);
  } else {
    const MappedFile file(path);
    bytes.assign(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  }
  return bytes.starts_with("\x1f\x8b") ? inflate_gzip(bytes, path) : bytes;
}

std::string read_text_file(const fs::path& path) {
  std::string text = read_whole_file(path);
  check_file_kind(path, std::as_bytes(std::span(text)), FileKind::text);
  return text;
}

void sync_directory(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

fs::path parent_directory(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : "."; }

OutputFile::OutputFile(const fs::path& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
  if (fd_ < 0) throw_errno(path.string(), "cannot create", "check the directory's permissions and free space");
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::write(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd_, bytes.data(), std::min<std::size_t>(bytes.size(), 1U << 30));
    if (written < 0) {
      if (errno == EINTR) continue;
      throw_errno(path_.string(), "cannot write", "free some disk space or write elsewhere");
    }
    size_ += static_cast<std::uint64_t>(written);
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

void OutputFile::finish() {
  if (fd_ < 0) return;
  const bool synced = ::fsync(fd_) == 0 || errno == EINVAL || errno == EROFS;
  const int code = errno;
  const bool closed = ::close(std::exchange(fd_, -1)) == 0;
  if (!synced) errno = code;
  if (!synced || !closed) throw_errno(path_.string(), "cannot write", "free some disk space or write elsewhere");
}

void write_file_atomically(const fs::path& path, std::string_view text) {
  write_file_atomically(path, [&](OutputFile& file) { file.write(text); });
}

void write_file_atomically(const fs::path& name, const std::function<void(OutputFile&)>& write) {
  std::error_code code;
  const fs::path path = fs::is_symlink(name, code) ? fs::weakly_canonical(name, code) : name;
  const fs::path temporary = temporary_path(path);
  try {
    OutputFile file(temporary);
    write(file);
    file.finish();
    if (::rename(temporary.c_str(), path.c_str()) != 0) throw_errno(path.string(), "cannot rename into place", "");
    sync_directory(parent_directory(path));
  } catch (...) {
    ::unlink(temporary.c_str());
    throw;
  }
}

}  // namespace pq
