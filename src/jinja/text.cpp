#include "jinja/text.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "text/unicode.h"

namespace pq::jinja {
bool is_python_space(char32_t c) noexcept { return is_white_space(c) || (c >= 0x1c && c <= 0x1f); }

std::size_t count_characters(Run& run, std::string_view text) {
  run.spend(text.size());
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80; }));
}

void spend_search(Run& run, std::string_view text, std::string_view needle) {
  run.spend(text.size() + needle.size() +
            text.size() / 16 * std::min<std::size_t>(needle.size(), std::size_t{1} << 26));
}

std::string_view strip(Run& run, std::string_view text, const std::string* characters, bool left, bool right) {
  const auto drops = [&](std::string_view at) {
    if (characters == nullptr) return is_python_space(first_code_point(at));
    run.spend(characters->size());
    return characters->find(at.substr(0, utf8_length(at[0]))) != std::string::npos;
  };
  run.spend(text.size());
  while (left && !text.empty() && drops(text)) text.remove_prefix(utf8_length(text[0]));
  while (right && !text.empty()) {
    const std::string_view last = last_character(text);
    if (!drops(last)) break;
    text.remove_suffix(last.size());
  }
  return text;
}

std::string replace(Run& run, std::string_view text, std::string_view old, std::string_view replacement,
                    std::int64_t count) {
  spend_search(run, text, old);
  std::string out;
  std::size_t at = 0;
  while (count != 0) {
    std::size_t found = text.find(old, at);
    if (found == std::string_view::npos) break;
    run.spend(replacement.size() + 8);
    out.append(text.substr(at, found - at)).append(replacement);
    --count;
    at = found + old.size();
    if (!old.empty()) continue;
    if (found == text.size()) return out;
    const std::size_t size = utf8_length(text[found]);  // an empty `old` stands between all characters
    out.append(text.substr(found, size));
    at = found + size;
  }
  out.append(text.substr(at));
  return out;
}

std::vector<std::string_view> split(Run& run, std::string_view text, const std::string* separator, std::int64_t count) {
  std::vector<std::string_view> parts;
  const auto add = [&](std::string_view part) {
    run.spend(part.size() + 64);
    parts.push_back(part);
  };
  if (separator != nullptr) {
    if (separator->empty()) run.fail("split() takes no empty separator");
    spend_search(run, text, *separator);
    for (; count != 0; --count) {
      const std::size_t found = text.find(*separator);
      if (found == std::string_view::npos) break;
      add(text.substr(0, found));
      text.remove_prefix(found + separator->size());
    }
    add(text);
    return parts;
  }
  for (text = strip(run, text, nullptr, true, false); !text.empty() && count != 0; --count) {
    std::size_t size = 0;
    while (size < text.size() && !is_python_space(first_code_point(text.substr(size)))) size += utf8_length(text[size]);
    add(text.substr(0, size));
    text.remove_prefix(size);
    while (!text.empty() && is_python_space(first_code_point(text))) text.remove_prefix(utf8_length(text[0]));
  }
  if (!text.empty()) add(text);
  return parts;
}

std::vector<std::string_view> split_from_end(Run& run, std::string_view text, const std::string* separator,
                                             std::int64_t count) {
  std::vector<std::string_view> parts;
  const auto add = [&](std::string_view part) {
    run.spend(part.size() + 64);
    parts.push_back(part);
  };
  if (separator != nullptr) {
    if (separator->empty()) run.fail("rsplit() takes no empty separator");
    spend_search(run, text, *separator);
    for (; count != 0; --count) {
      const std::size_t found = text.rfind(*separator);
      if (found == std::string_view::npos) break;
      add(text.substr(found + separator->size()));
      text = text.substr(0, found);
    }
    add(text);
  } else {
    const auto ends_in_space = [&] { return is_python_space(first_code_point(last_character(text))); };
    for (text = strip(run, text, nullptr, false, true); !text.empty() && count != 0; --count) {
      const std::string_view all = text;
      while (!text.empty() && !ends_in_space()) text.remove_suffix(last_character(text).size());
      add(all.substr(text.size()));
      while (!text.empty() && ends_in_space()) text.remove_suffix(last_character(text).size());
    }
    if (!text.empty()) add(text);
  }
  std::reverse(parts.begin(), parts.end());
  return parts;
}

std::int64_t missing_characters(Run& run, std::string_view text, std::int64_t width) {
  return std::max<std::int64_t>(width - static_cast<std::int64_t>(count_characters(run, text)), 0);
}

std::string padded(Run& run, std::string_view text, std::int64_t before, std::int64_t after, std::string_view fill) {
  for (const std::int64_t count : {before, after}) {
    run.spend(static_cast<std::size_t>(count));
    run.spend(static_cast<std::size_t>(count) * fill.size());
  }
  std::string out;
  for (std::int64_t i = 0; i < before; ++i) out += fill;
  out += text;
  for (std::int64_t i = 0; i < after; ++i) out += fill;
  return out;
}

std::string centered(Run& run, std::string_view text, std::int64_t width, std::string_view fill) {
  const std::int64_t missing = missing_characters(run, text, width);
  const std::int64_t before = missing / 2 + (missing & width & 1);
  return padded(run, text, before, missing - before, fill);
}

std::vector<std::string_view> split_lines(Run& run, std::string_view text) {
  run.spend(text.size());
  std::vector<std::string_view> lines;
  const auto ends_line = [](char32_t c) {
    return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
  };
  std::size_t size = 0;
  while (!text.empty()) {
    if (size < text.size() && !ends_line(first_code_point(text.substr(size)))) {
      size += utf8_length(text[size]);
      continue;
    }
    run.spend(size + 64);
    lines.push_back(text.substr(0, size));
    text.remove_prefix(size);
    if (!text.empty()) text.remove_prefix(text.starts_with("\r\n") ? 2 : utf8_length(text[0]));
    size = 0;
  }
  return lines;
}

std::int64_t count_text(Run& run, std::string_view text, std::string_view needle) {
  if (needle.empty()) return static_cast<std::int64_t>(count_characters(run, text)) + 1;
  spend_search(run, text, needle);
  std::int64_t count = 0;
  for (std::size_t at = text.find(needle); at != std::string_view::npos; at = text.find(needle, at + needle.size()))
    ++count;
  return count;
}

std::int64_t find_text(Run& run, std::string_view text, std::string_view needle, bool last) {
  spend_search(run, text, needle);
  const std::size_t at = last ? text.rfind(needle) : text.find(needle);
  if (at == std::string_view::npos) return -1;
  return static_cast<std::int64_t>(count_characters(run, text.substr(0, at)));
}

std::string float_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::string text = fmt::format("{}", value);
  if (text.find_first_of(".e") == std::string::npos) text += ".0";
  return text;
}

}  // namespace pq::jinja
