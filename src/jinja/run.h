#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace pq::jinja {

/// What one rendering may use and where it stands. Everything that takes time or memory in proportion to a template's
/// wishes spends from it first, so that no template can make the program hang or run out of memory.
class Run {
 public:
  explicit Run(std::string_view where) : where_(where) {}

  /// One unit is about a byte touched. Throws UnsupportedError when the rendering has spent 64 Mi units.
  void spend(std::size_t units);
  /// InputError that names the template and the line being run.
  [[noreturn]] void fail(std::string_view what) const;
  /// UnsupportedError, likewise.
  [[noreturn]] void unsupported(std::string_view what) const;

  /// One level of recursion while it lives. Throws UnsupportedError when there are more than 400.
  class Level {
   public:
    explicit Level(Run& run);
    ~Level() { --run_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Run& run_;
  };

  int line = 1;  ///< of the template

 private:
  std::string where_;
  int depth_ = 0;
  std::size_t spent_ = 0;
};

}  // namespace pq::jinja
