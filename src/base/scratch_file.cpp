#include "base/scratch_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <limits>
#include <string>
#include <system_error>
#include <utility>

#include "base/disk_space.h"
#include "base/error.h"
#include "base/progress.h"

namespace pq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view elsewhere = "free some disk space or choose another directory";

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

/// A file without a name, at the latest when this returns; -1 and errno when there is none to be had.
int open_nameless(const fs::path& directory) {
  const int fd = ::open(directory.c_str(), O_TMPFILE | O_RDWR | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != ENOENT)) return fd;
  std::string name = (directory / "pq-scratch-XXXXXX").string();
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

/// Gives the file its size with the space for it.
bool reserve(int fd, off_t bytes) {
  int status = 0;
  do {
    status = ::fallocate(fd, 0, 0, bytes);
  } while (status != 0 && errno == EINTR);
  if (status == 0) return true;
  // The free space has been checked; more cannot be had here.
  return errno == EOPNOTSUPP && ::ftruncate(fd, bytes) == 0;
}

}  // namespace

ScratchFile::ScratchFile(const fs::path& directory, std::uint64_t bytes) {
  std::error_code code;
  if (!fs::is_directory(directory, code)) {
    throw InputError(directory.string(), "is not a directory that exists", "make it, or choose another directory");
  }
  const Descriptor file(open_nameless(directory));
  if (file.get() < 0) {
    const std::string reason = std::system_category().message(errno);
    throw InputError(directory.string(), fmt::format("no file can be made here: {}", reason),
                     "check its permissions, or choose another directory");
  }
  if (bytes == 0) return;
  require_free_space(directory, bytes, "a scratch file");
  constexpr auto largest = static_cast<std::uint64_t>(std::numeric_limits<off_t>::max());
  if (bytes > largest || !reserve(file.get(), static_cast<off_t>(bytes))) {
    if (bytes > largest) errno = EFBIG;
    const int reason = errno;
    const auto available = free_disk_bytes(directory);
    errno = reason;
    throw_errno(directory.string(),
                fmt::format("cannot reserve {} for a scratch file, {} free", format_bytes(static_cast<double>(bytes)),
                            available ? format_bytes(static_cast<double>(*available)) : "unknown space"),
                elsewhere);
  }
  void* address = ::mmap(nullptr, static_cast<std::size_t>(bytes), PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
  if (address == MAP_FAILED) throw_errno(directory.string(), "cannot map a scratch file", "check ulimit -v");
  data_ = static_cast<std::byte*>(address);
  size_ = static_cast<std::size_t>(bytes);
  range_ = MappedRange(
      data_, size_, SystemError(directory.string(), "the disk of a scratch file is full or fails", elsewhere).what());
}

ScratchFile::ScratchFile(ScratchFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      range_(std::move(other.range_)) {}

ScratchFile& ScratchFile::operator=(ScratchFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(range_, other.range_);
  return *this;
}

ScratchFile::~ScratchFile() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace pq
