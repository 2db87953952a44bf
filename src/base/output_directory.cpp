#include "base/output_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/file_kind.h"
#include "base/files.h"

namespace pq {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view elsewhere = "choose another -o";
/// Stands in an OUT.partial that this program made.
constexpr std::string_view partial_marker = ".made-by-pq";

void make_directory(const fs::path& path) {
  std::error_code code;
  fs::create_directories(path, code);
  if (code)
    throw SystemError(path.string(), fmt::format("cannot make the directory: {}", code.message()),
                      "choose another place");
}

/// The directories that make_directory(path) would make, the innermost first.
std::vector<fs::path> missing_directories(fs::path path) {
  std::vector<fs::path> missing;
  for (; !exists_or_dangles(path); path = parent_directory(path)) missing.push_back(path);
  return missing;
}

/// Those that are empty.
void remove_directories(const std::vector<fs::path>& innermost_first) noexcept {
  for (const fs::path& path : innermost_first) {
    if (::rmdir(path.c_str()) != 0) return;
  }
}

/// Without "." and slashes at its end.
fs::path tidy(const fs::path& path) {
  if (path.empty()) throw InputError("-o", "the output's name is empty", "name the directory to write");
  fs::path normal = path.lexically_normal();
  if (!normal.has_filename()) normal = normal.parent_path();
  const fs::path name = normal.filename();
  if (name.empty() || name == "." || name == "..") {
    throw InputError(path.string(), "is no name for a new directory", "name one that is to be made");
  }
  return normal;
}

/// "OUT.partial"
fs::path partial_path(fs::path path) {
  path += ".partial";
  return path;
}

bool holds_work(const fs::path& resume) {
  std::error_code code;
  return fs::is_directory(fs::symlink_status(resume, code)) && !fs::is_empty(resume, code);
}

/// The nearest directory above that is there must take new entries.
void check_place(const fs::path& path) {
  constexpr std::size_t longest_name = 255;
  if (partial_path(path.filename()).string().size() > longest_name) {
    throw InputError(path.string(), "the name is too long", elsewhere);
  }
  fs::path parent = parent_directory(path);
  while (!exists_or_dangles(parent)) parent = parent_directory(parent);
  std::error_code code;
  if (!fs::is_directory(parent, code)) {
    throw InputError(path.string(), fmt::format("cannot be made, as {} is no directory", parent.string()), elsewhere);
  }
  if (::access(parent.c_str(), W_OK | X_OK) != 0) {
    const std::string reason = std::system_category().message(errno);
    throw InputError(path.string(),
                     fmt::format("cannot be made: {} cannot be written to ({})", parent.string(), reason), elsewhere);
  }
}

/// A directory that is another file system's root cannot be replaced by renaming.
bool is_mount_point(const fs::path& path) {
  struct stat own {};
  struct stat above {};
  return ::stat(path.c_str(), &own) == 0 && ::stat(parent_directory(path).c_str(), &above) == 0 &&
         own.st_dev != above.st_dev;
}

void refuse_link(const fs::path& path) {
  std::error_code code;
  if (!fs::is_symlink(path, code)) return;
  throw InputError(path.string(), "is a link and will not be replaced",
                   fmt::format("name the directory itself ({}), or another -o", fs::read_symlink(path, code).string()));
}

/// OUT may be made, or made anew.
void check_target(const fs::path& path, const OutputKind& kind, bool replace) {
  refuse_link(path);
  std::error_code code;
  if (!fs::exists(path, code)) return;
  const bool directory = fs::is_directory(path, code);
  if (directory && is_mount_point(path)) {
    throw InputError(path.string(), "is a mount point, which cannot be replaced", "name a directory inside of it");
  }
  if (directory && fs::is_empty(path, code)) return;
  if (!replace) {
    const bool replaceable = directory && fs::exists(path / kind.marker, code);
    throw InputError(path.string(), "already exists",
                     replaceable ? "choose another -o, or --force to replace it" : elsewhere);
  }
  if (!directory) throw InputError(path.string(), "is a file and will not be replaced", elsewhere);
  if (!fs::exists(path / kind.marker, code)) {
    throw InputError(path.string(),
                     fmt::format("will not be replaced: it holds no {}, so it is not a checkpoint", kind.marker),
                     elsewhere);
  }
  if (kind.check) kind.check(path);
}

/// OUT.partial is not there, or a directory that this program made.
void check_partial(const fs::path& partial) {
  refuse_link(partial);
  if (!exists_or_dangles(partial)) return;
  std::error_code code;
  const bool ours =
      fs::is_directory(partial, code) && (fs::is_empty(partial, code) || exists_or_dangles(partial / partial_marker) ||
                                          exists_or_dangles(partial / "resume"));
  if (ours) return;
  throw InputError(partial.string(), "is in the way, and is no work of this program",
                   "move it away, or choose another -o");
}

}  // namespace

void OutputDirectory::check(const fs::path& given, const OutputKind& kind, bool replace, Unfinished unfinished,
                            bool replace_unfinished) {
  const fs::path path = tidy(given);
  check_target(path, kind, replace);
  check_place(path);
  const fs::path partial = partial_path(path);
  check_partial(partial);
  if (unfinished == Unfinished::keep || replace_unfinished) return;
  if (!holds_work(partial / "resume")) return;
  throw InputError(partial.string(), "holds the unfinished work of another run",
                   fmt::format("finish it with the command that began it, or remove {}, which --restart does too",
                               partial.string()));
}

OutputDirectory::OutputDirectory(const fs::path& path, OutputKind kind, bool replace, Unfinished unfinished,
                                 bool replace_unfinished)
    : path_(tidy(path)),
      partial_(partial_path(path_)),
      kind_(std::move(kind)),
      unfinished_(unfinished),
      replace_(replace) {
  check(path_, kind_, replace, Unfinished::keep);
  const fs::path parent = parent_directory(path_);
  made_parents_ = missing_directories(parent);
  try {
    make_directory(parent);
    make_directory(partial_);
    lock_ = ::open(partial_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (lock_ < 0 || ::flock(lock_, LOCK_EX | LOCK_NB) != 0) {
      throw InputError(partial_.string(), "another run is writing here", "wait for it, or choose another -o");
    }
    check(path_, kind_, replace, unfinished, replace_unfinished);
    clear(!replace_unfinished);  // a dead run's half-written output
    OutputFile(partial_ / partial_marker).finish();
  } catch (...) {
    remove_directories(made_parents_);
    if (lock_ >= 0) ::close(lock_);
    throw;
  }
}

OutputDirectory::~OutputDirectory() {
  if (!committed_) {
    clear(unfinished_ == Unfinished::keep);
    // Fails, rightly, when something was kept.
    if (::rmdir(partial_.c_str()) == 0) remove_directories(made_parents_);
  }
  ::close(lock_);
}

void OutputDirectory::clear(bool keep_resume) noexcept {
  std::error_code code;
  const bool keeps = keep_resume && holds_work(partial_ / "resume");
  for (fs::directory_iterator entry(partial_, code), end; !code && entry != end; entry.increment(code)) {
    const fs::path name = entry->path().filename();
    if (keeps && (name == "resume" || name == partial_marker)) continue;
    std::error_code ignored;
    fs::remove_all(entry->path(), ignored);
  }
}

/// Gives an OUT that is there a free name beside it, and returns that; empty when there is none.
fs::path OutputDirectory::move_aside() {
  refuse_link(path_);
  std::error_code code;
  if (!fs::exists(path_, code)) return {};
  const bool empty = fs::is_directory(path_, code) && fs::is_empty(path_, code);
  if (!replace_ && !empty) {
    throw InputError(path_.string(), "was made by someone else meanwhile",
                     "choose another -o, or --force to replace it");
  }
  check_target(path_, kind_, true);
  fs::path old = path_;
  old += ".old";
  for (int number = 1; exists_or_dangles(old); ++number) {
    old = path_;
    old += fmt::format(".old-{}", number);
  }
  fs::rename(path_, old, code);
  if (code) throw SystemError(path_.string(), fmt::format("cannot move aside: {}", code.message()), "");
  return old;
}

void OutputDirectory::commit() {
  std::error_code code;
  fs::remove(partial_ / partial_marker, code);
  sync_directory(partial_);
  const fs::path old = move_aside();
  fs::rename(partial_, path_, code);
  if (code) {
    std::error_code ignored;
    if (!old.empty()) fs::rename(old, path_, ignored);
    throw SystemError(path_.string(), fmt::format("cannot rename {} into place: {}", partial_.string(), code.message()),
                      "");
  }
  committed_ = true;
  if (!old.empty()) fs::remove_all(old, code);
  sync_directory(parent_directory(path_));
  // Not before: a process killed between removal and rename would have lost the work and not got the result.
  fs::remove_all(path_ / "resume", code);
}

}  // namespace pq
