#include "base/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>
#include <zlib.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/error.h"
#include "base/input_stream.h"

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

void make_directory(const fs::path& path) {
  std::error_code code;
  fs::create_directories(path, code);
  if (code)
    throw SystemError(path.string(), fmt::format("cannot make the directory: {}", code.message()),
                      "choose another place");
}

fs::path parent_directory(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : "."; }

void sync_directory(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  ::fsync(fd);
  ::close(fd);
}

fs::path without_slash(fs::path path) { return path.has_filename() ? std::move(path) : path.parent_path(); }

/// "OUT.partial"
fs::path partial_path(const fs::path& path) {
  fs::path partial = without_slash(path);
  partial += ".partial";
  return partial;
}

bool holds_work(const fs::path& resume) {
  std::error_code code;
  return fs::is_directory(fs::symlink_status(resume, code)) && !fs::is_empty(resume, code);
}

}  // namespace

std::string read_text_file(const fs::path& path) {
  std::string bytes = read_bytes(path);
  return bytes.starts_with("\x1f\x8b") ? inflate_gzip(bytes, path) : bytes;
}

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

void write_file_atomically(const fs::path& path, const std::function<void(OutputFile&)>& write) {
  fs::path temporary = path;
  temporary += ".partial";
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

void OutputDirectory::check(const fs::path& path, std::string_view marker, bool replace, Unfinished unfinished,
                            bool replace_unfinished) {
  std::error_code code;
  if (fs::exists(path, code) && !(fs::is_directory(path, code) && fs::is_empty(path, code))) {
    if (!replace) throw InputError(path.string(), "already exists", "choose another -o, or --force to replace it");
    if (!fs::exists(path / marker, code)) {
      throw InputError(path.string(),
                       fmt::format("will not be replaced: it holds no {}, so it is not a checkpoint", marker),
                       "choose another -o");
    }
  }
  if (unfinished == Unfinished::keep || replace_unfinished) return;
  const fs::path partial = partial_path(path);
  if (!holds_work(partial / "resume")) return;
  throw InputError(partial.string(), "holds the unfinished work of another run",
                   fmt::format("finish it with the command that began it, or remove {}, which --restart does too",
                               partial.string()));
}

OutputDirectory::OutputDirectory(fs::path path, std::string_view marker, bool replace, Unfinished unfinished,
                                 bool replace_unfinished)
    : path_(without_slash(std::move(path))), partial_(partial_path(path_)), unfinished_(unfinished), replace_(replace) {
  check(path_, marker, replace, Unfinished::keep);
  std::error_code code;
  if (!path_.parent_path().empty()) make_directory(path_.parent_path());
  make_directory(partial_);
  lock_ = ::open(partial_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  try {
    if (lock_ < 0 || ::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
      throw InputError(partial_.string(), "another run is writing here", "wait for it, or choose another -o");
    }
    check(path_, marker, replace, unfinished, replace_unfinished);
  } catch (...) {
    if (lock_ >= 0) ::close(lock_);
    throw;
  }
  clear(!replace_unfinished);  // a dead run's half-written output
}

OutputDirectory::~OutputDirectory() {
  if (!committed_) {
    clear(unfinished_ == Unfinished::keep);
    ::rmdir(partial_.c_str());  // fails, rightly, when something was kept
  }
  ::close(lock_);
}

void OutputDirectory::clear(bool keep_resume) noexcept {
  std::error_code code;
  for (fs::directory_iterator entry(partial_, code), end; !code && entry != end; entry.increment(code)) {
    if (keep_resume && entry->path().filename() == "resume" && holds_work(entry->path())) continue;
    std::error_code ignored;
    fs::remove_all(entry->path(), ignored);
  }
}

void OutputDirectory::commit() {
  sync_directory(partial_);
  std::error_code code;
  fs::path old = path_;
  old += ".old";
  if (fs::exists(path_, code)) {
    if (!replace_ && !fs::is_empty(path_, code)) {
      throw InputError(path_.string(), "was made by someone else meanwhile",
                       "choose another -o, or --force to replace it");
    }
    fs::remove_all(old, code);
    fs::rename(path_, old, code);
    if (code) throw SystemError(path_.string(), fmt::format("cannot move aside: {}", code.message()), "");
  }
  fs::rename(partial_, path_, code);
  if (code) {
    std::error_code ignored;
    if (fs::exists(old, ignored)) fs::rename(old, path_, ignored);
    throw SystemError(path_.string(), fmt::format("cannot rename {} into place: {}", partial_.string(), code.message()),
                      "");
  }
  committed_ = true;
  fs::remove_all(old, code);
  sync_directory(parent_directory(path_));
  // Not before: a process killed between removal and rename would have lost the work and not got the result.
  fs::remove_all(path_ / "resume", code);
}

}  // namespace pq
