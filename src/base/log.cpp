#include "base/log.h"

#include <spdlog/sinks/ansicolor_sink.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "base/launch.h"
#include "base/terminal.h"

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

void log_line(LogLevel level, std::string_view tag, std::string_view text) {
  if (static_cast<int>(level) > static_cast<int>(current_level) || launch().rank != 0) return;
  clear_redrawn_line();
  if (tag.empty()) {
    logger().info(text);
  } else {
    logger().set_pattern("%^" + std::string(tag) + ":%$ %v");
    logger().warn(text);
    logger().set_pattern("%v");
  }
}

}  // namespace pq
