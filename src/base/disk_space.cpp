#include "base/disk_space.h"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include <limits>

#include "base/error.h"
#include "base/progress.h"

namespace pq {

std::optional<std::uint64_t> free_disk_bytes(const std::filesystem::path& directory) {
  struct statvfs info {};
  if (::statvfs(directory.c_str(), &info) != 0 || info.f_blocks == 0 || info.f_frsize == 0) return std::nullopt;
  const std::uint64_t blocks = info.f_bavail;
  if (blocks > std::numeric_limits<std::uint64_t>::max() / info.f_frsize) return std::nullopt;
  return blocks * info.f_frsize;
}

void require_free_space(const std::filesystem::path& directory, std::uint64_t bytes, std::string_view what) {
  const auto available = free_disk_bytes(directory);
  if (!available || *available >= bytes) return;
  throw SystemError(
      directory.string(),
      fmt::format("{} needs {}, but the disk has only {} free", what, format_bytes(static_cast<double>(bytes)),
                  format_bytes(static_cast<double>(*available))),
      "free some disk space or write elsewhere");
}

}  // namespace pq
