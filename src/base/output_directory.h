#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace pq {

/// What a directory must be for a new one to take its place.
struct OutputKind {
  /// A file that such a directory holds.
  std::string marker;
  /// Throws InputError for a directory with the marker that this program did not write. May be empty.
  std::function<void(const std::filesystem::path&)> check{};

  OutputKind(const char* of_marker) : marker(of_marker) {}  // NOLINT(google-explicit-constructor)
  OutputKind(const char* of_marker, std::function<void(const std::filesystem::path&)> of_check)
      : marker(of_marker), check(std::move(of_check)) {}
};

/// What a run that ends without commit() leaves.
enum class Unfinished {
  discard,  ///< nothing
  keep,     ///< OUT.partial/resume, when something is in it; the next run finds it there
};

/// A directory that appears whole or not at all: work goes to `OUT.partial`, commit() renames it to OUT.
/// A finished OUT is refused unless `replace` is set, in which case it is removed only when its successor is complete.
/// Links are never followed or replaced, and nothing is removed that this program did not make.
class OutputDirectory {
 public:
  /// Throws InputError for an empty name, a name that cannot become a directory (".", a mount point, a link, below a
  /// file or a directory that cannot be written to), when `path` exists and `replace` is not set, when it is not of
  /// `kind`, when OUT.partial is not this program's, when another process writes to it, or when that holds unfinished
  /// work (a folder `resume` that is not empty) and `unfinished` is discard; with `replace_unfinished` such work is
  /// removed instead, whatever `unfinished` says. SystemError when OUT.partial cannot be made.
  OutputDirectory(const std::filesystem::path& path, OutputKind kind, bool replace,
                  Unfinished unfinished = Unfinished::discard, bool replace_unfinished = false);
  /// Throws the InputErrors of the constructor, but for another process at work, and makes nothing: to refuse before
  /// long work.
  static void check(const std::filesystem::path& path, const OutputKind& kind, bool replace,
                    Unfinished unfinished = Unfinished::discard, bool replace_unfinished = false);
  /// Without commit(), removes what was written, except for what `Unfinished` keeps, and the directories above that
  /// were made for it, as far as nothing else is in them.
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
  std::filesystem::path move_aside();

  std::filesystem::path path_;
  std::filesystem::path partial_;
  std::vector<std::filesystem::path> made_parents_;  ///< the innermost first
  OutputKind kind_;
  Unfinished unfinished_;
  int lock_ = -1;
  bool replace_ = false;
  bool committed_ = false;
};

}  // namespace pq
