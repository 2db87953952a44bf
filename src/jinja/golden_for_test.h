#pragma once

#include <ctime>
#include <string>

#include "base/json.h"

namespace pq::jinja {

/// A file of tests/goldens/chat_template, made with Jinja and `transformers`.
inline Json golden(const std::string& name) {
  return read_json_file(std::string(PQ_SOURCE_DIR) + "/tests/goldens/chat_template/" + name);
}

/// The goldens' strftime_now: local time, whatever the time zone here.
inline std::time_t golden_now() {
  std::tm local{};
  local.tm_year = 2024 - 1900;
  local.tm_mon = 6;
  local.tm_mday = 26;
  local.tm_hour = 15;
  local.tm_min = 4;
  local.tm_sec = 5;
  local.tm_isdst = -1;
  return std::mktime(&local);
}

}  // namespace pq::jinja
