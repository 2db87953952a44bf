#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace pq {

/// Everything here goes to stderr; stdout belongs to results. Of several processes (Launch) the first one alone writes.
enum class LogLevel { quiet, normal, verbose };
void set_log_level(LogLevel level);
LogLevel log_level();

void log_line(LogLevel level, std::string_view tag, std::string_view text);

template <typename... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::normal, "", fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::quiet, "warning", fmt::format(format, std::forward<Args>(args)...));
}
template <typename... Args>
void log_verbose(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::verbose, "", fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace pq
