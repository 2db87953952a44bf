#include "io/disk_space.h"

#include <fmt/format.h>
#include <sys/statvfs.h>

#include "base/error.h"
#include "base/progress.h"

namespace pq::io {

void require_free_space(const std::filesystem::path& directory, std::uint64_t bytes) {
  struct statvfs info {};
  if (::statvfs(directory.c_str(), &info) != 0 || info.f_blocks == 0) return;
  const double free_bytes = static_cast<double>(info.f_bavail) * static_cast<double>(info.f_frsize);
  const auto needed = static_cast<double>(bytes);
  if (free_bytes >= needed) return;
  throw SystemError(directory.string(),
                    fmt::format("the checkpoint needs {}, but the disk has only {} free", format_bytes(needed),
                                format_bytes(free_bytes)),
                    "free some disk space or write elsewhere");
}

}  // namespace pq::io
