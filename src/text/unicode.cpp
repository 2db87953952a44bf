#include "text/unicode.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/error.h"

namespace pq {
namespace {

unsigned char byte_at(std::string_view text, std::size_t i) { return static_cast<unsigned char>(text[i]); }

/// General category, with the characters that utf8proc does not know yet.
std::string_view category(char32_t c) {
  const auto ranges = unicode_additions();
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), c,
                                      [](char32_t value, const CategoryRange& range) { return value < range.first; });
  if (after != ranges.begin() && c <= std::prev(after)->last) return {std::prev(after)->category, 2};
  return utf8proc_category_string(static_cast<utf8proc_int32_t>(c));
}

/// Canonical ordering. utf8proc_decompose has it too, but takes quadratic time for a long run of marks.
void order_combining_marks(std::vector<utf8proc_int32_t>& points) {
  const auto combining_class = [](utf8proc_int32_t c) { return utf8proc_get_property(c)->combining_class; };
  for (auto begin = points.begin(); begin != points.end();) {
    if (combining_class(*begin) == 0) {
      ++begin;
      continue;
    }
    const auto end = std::find_if(begin, points.end(), [&](utf8proc_int32_t c) { return combining_class(c) == 0; });
    std::stable_sort(begin, end, [&](auto a, auto b) { return combining_class(a) < combining_class(b); });
    begin = end;
  }
}

}  // namespace

Utf8Sequence first_utf8_sequence(std::string_view text) noexcept {
  const unsigned char lead = byte_at(text, 0);
  if (lead < 0x80) return {Utf8State::complete, 1};
  if (lead < 0xc2 || lead > 0xf4) return {Utf8State::invalid, 1};
  const std::size_t length = utf8_length(text[0]);
  // The second byte alone tells overlong forms, surrogates and values above U+10FFFF.
  const unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  for (std::size_t i = 1; i < length; ++i) {
    if (i == text.size()) return {Utf8State::incomplete, i};
    const unsigned char byte = byte_at(text, i);
    if (byte < (i == 1 ? low : 0x80) || byte > (i == 1 ? high : 0xbf)) return {Utf8State::invalid, i};
  }
  return {Utf8State::complete, length};
}

std::size_t find_invalid_utf8(std::string_view text) noexcept {
  std::size_t i = 0;
  while (i < text.size()) {
    if (byte_at(text, i) < 0x80) {
      ++i;
      continue;
    }
    const Utf8Sequence sequence = first_utf8_sequence(text.substr(i));
    if (sequence.state != Utf8State::complete) return i;
    i += sequence.length;
  }
  return std::string_view::npos;
}

char32_t first_code_point(std::string_view text) noexcept {
  const unsigned char lead = byte_at(text, 0);
  const std::size_t length = utf8_length(text[0]);
  if (length == 1) return lead;
  char32_t c = lead & (0x7fU >> length);
  for (std::size_t i = 1; i < length; ++i) c = (c << 6) | (byte_at(text, i) & 0x3fU);
  return c;
}

std::string_view last_character(std::string_view text) noexcept {
  std::size_t begin = text.size() - 1;
  while (begin > 0 && (byte_at(text, begin) & 0xc0U) == 0x80U) --begin;
  return text.substr(begin);
}

void append_utf8(std::string& out, char32_t c) {
  const auto put = [&out](char32_t byte) { out.push_back(static_cast<char>(static_cast<unsigned char>(byte))); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | (c >> 6));
    put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | (c >> 12));
    put(0x80 | ((c >> 6) & 0x3f));
    put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | (c >> 18));
    put(0x80 | ((c >> 12) & 0x3f));
    put(0x80 | ((c >> 6) & 0x3f));
    put(0x80 | (c & 0x3f));
  }
}

void drain_utf8(std::string& pending, std::string& out, bool at_end) {
  std::string_view rest = pending;
  while (!rest.empty()) {
    const Utf8Sequence sequence = first_utf8_sequence(rest);
    if (sequence.state == Utf8State::incomplete && !at_end) break;
    out += sequence.state == Utf8State::complete ? rest.substr(0, sequence.length) : replacement_character;
    rest.remove_prefix(sequence.length);
  }
  pending.erase(0, pending.size() - rest.size());
}

bool is_white_space(char32_t c) noexcept {
  return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

bool is_numeric(char32_t c) noexcept {
  // Unicode 17 (Rust's tables) adds these to Unicode 16.
  if ((c >= 0x11de0 && c <= 0x11de9) || (c >= 0x16ff4 && c <= 0x16ff6)) return true;
  return category(c)[0] == 'N';
}

bool is_mark(char32_t c) noexcept { return category(c)[0] == 'M'; }

bool is_word(char32_t c) noexcept {
  const std::string_view name = category(c);
  const auto is_category = [&](std::string_view word) { return name.starts_with(word); };
  if (std::any_of(std::begin(word_categories), std::end(word_categories), is_category)) return true;
  if (c == 0x200c || c == 0x200d) return true;
  return std::any_of(std::begin(alphabetic_symbols), std::end(alphabetic_symbols),
                     [c](const CodeRange& range) { return c >= range.first && c <= range.last; });
}

void append_lower_case(std::string& out, char32_t c) {
  constexpr char32_t capital_i_with_dot = 0x130;
  if (c == capital_i_with_dot) {
    out += "i\u0307";
  } else {
    append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c))));
  }
}

std::string unicode_normalize(std::string_view text, NormalizationForm form) {
  if (std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; })) {
    return std::string(text);
  }
  const bool compose = form == NormalizationForm::nfc || form == NormalizationForm::nfkc;
  const bool compatible = form == NormalizationForm::nfkc || form == NormalizationForm::nfkd;
  const int options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compatible ? UTF8PROC_COMPAT : 0);
  std::vector<utf8proc_int32_t> points;
  points.reserve(text.size());
  for (; !text.empty(); text.remove_prefix(utf8_length(text[0]))) {
    std::array<utf8proc_int32_t, 32> parts{};
    int boundary_state = 0;
    const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(first_code_point(text)), parts.data(),
                                               static_cast<utf8proc_ssize_t>(parts.size()),
                                               static_cast<utf8proc_option_t>(options), &boundary_state);
    if (count < 0 || count > static_cast<utf8proc_ssize_t>(parts.size())) {
      throw SystemError("Unicode normalization", utf8proc_errmsg(count));
    }
    points.insert(points.end(), parts.begin(), parts.begin() + count);
  }
  order_combining_marks(points);
  auto length = static_cast<utf8proc_ssize_t>(points.size());
  if (compose) {
    length = utf8proc_normalize_utf32(points.data(), length,
                                      static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
    if (length < 0) throw SystemError("Unicode normalization", utf8proc_errmsg(length));
  }
  std::string out;
  for (utf8proc_ssize_t i = 0; i < length; ++i)
    append_utf8(out, static_cast<char32_t>(points[static_cast<std::size_t>(i)]));
  return out;
}

}  // namespace pq
