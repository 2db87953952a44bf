#include "base/log.h"

#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/communicator.h"
#include "base/progress.h"

namespace pq {
namespace {

LogLevel current_level = LogLevel::normal;

spdlog::logger& logger() {
  static const auto instance = [] {
    const auto mode = stderr_has_color() ? spdlog::color_mode::always : spdlog::color_mode::never;
    auto created =
        std::make_shared<spdlog::logger>("pq", std::make_shared<spdlog::sinks::ansicolor_stderr_sink_mt>(mode));
    created->set_pattern("%v");
    return created;
  }();
  return *instance;
}

}  // namespace

void set_log_level(LogLevel level) { current_level = level; }
LogLevel log_level() { return current_level; }

bool stderr_has_color() {
  const char* no_color = std::getenv("NO_COLOR");
  if (no_color != nullptr && *no_color != '\0') return false;
  const char* term = std::getenv("TERM");
  return ::isatty(STDERR_FILENO) != 0 && term != nullptr && std::strcmp(term, "dumb") != 0;
}

void log_line(LogLevel level, std::string_view tag, std::string_view text) {
  if (static_cast<int>(level) > static_cast<int>(current_level) || launch().rank != 0) return;
  Progress::clear_line();
  if (tag.empty()) {
    logger().info(text);
  } else {
    logger().set_pattern("%^" + std::string(tag) + ":%$ %v");
    logger().warn(text);
    logger().set_pattern("%v");
  }
}

}  // namespace pq
