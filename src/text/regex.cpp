#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/regex.h"

#include <fmt/format.h>
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <cstdint>

#include "base/error.h"
#include "text/unicode.h"

namespace pq {
namespace {

constexpr std::size_t max_pattern_bytes = 8192;

/// What one match may take. A run of blanks is gone through once forwards and once backwards by each branch of a
/// pattern, so that a text of a million needs some steps for each; a pattern that takes more than that never ends.
std::uint32_t match_limit(std::size_t text_bytes) {
  constexpr std::size_t least = 1'000'000;
  return static_cast<std::uint32_t>(std::min<std::size_t>(least + 16 * text_bytes, UINT32_MAX));
}

std::uint32_t heap_limit_kib(std::size_t text_bytes) {
  constexpr std::size_t least = std::size_t{64} * 1024;
  return static_cast<std::uint32_t>(std::min<std::size_t>(least + text_bytes / 2, UINT32_MAX));
}

struct MatchDataDeleter {
  void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
};
struct MatchContextDeleter {
  void operator()(pcre2_match_context* context) const { pcre2_match_context_free(context); }
};

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

struct Regex::Code {
  explicit Code(pcre2_code* compiled) : code(compiled) {}
  ~Code() { pcre2_code_free(code); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;
  pcre2_code* code;
};

Regex::Regex(std::string_view pattern, std::string_view where) : pattern_(pattern), where_(where) {
  if (pattern.size() > max_pattern_bytes) {
    throw UnsupportedError(where,
                           fmt::format("a regex of {} bytes is longer than {}", pattern.size(), max_pattern_bytes));
  }
  const std::string translated = translate_regex(pattern, where);
  const std::unique_ptr<pcre2_compile_context, decltype(&pcre2_compile_context_free)> context(
      pcre2_compile_context_create(nullptr), &pcre2_compile_context_free);
  if (!context) throw SystemError(where, "out of memory");
  pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
  pcre2_set_parens_nest_limit(context.get(), 100);
  int error = 0;
  PCRE2_SIZE offset = 0;
  // Oniguruma's ^ and $ always stand at lines.
  const std::uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
  pcre2_code* compiled = pcre2_compile(units(translated), translated.size(), options, &error, &offset, context.get());
  if (compiled == nullptr) {
    throw FormatError(where, fmt::format("regex '{}' is invalid: {}", pattern, error_text(error)),
                      "correct the pattern");
  }
  code_ = std::make_shared<const Code>(compiled);
  // Without JIT the interpreter gives the same matches, slower.
  pcre2_jit_compile(compiled, PCRE2_JIT_COMPLETE);
}

void Regex::find_all(std::string_view text, std::vector<Slice>& slices) const {
  if (text.empty()) {
    slices.push_back({0, 0, false});
    return;
  }
  const std::unique_ptr<pcre2_match_data, MatchDataDeleter> data(pcre2_match_data_create(1, nullptr));
  const std::unique_ptr<pcre2_match_context, MatchContextDeleter> context(pcre2_match_context_create(nullptr));
  if (!data || !context) throw SystemError(where_, "out of memory");
  pcre2_set_match_limit(context.get(), match_limit(text.size()));
  pcre2_set_heap_limit(context.get(), heap_limit_kib(text.size()));
  const PCRE2_SIZE* ends = pcre2_get_ovector_pointer(data.get());
  std::size_t covered = 0;
  std::size_t from = 0;
  std::size_t last_match_end = std::string_view::npos;
  while (from <= text.size()) {
    int count = pcre2_match(code_->code, units(text), text.size(), from, PCRE2_NO_UTF_CHECK, data.get(), context.get());
    if (count == PCRE2_ERROR_JIT_STACKLIMIT) {
      count = pcre2_match(code_->code, units(text), text.size(), from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data.get(),
                          context.get());
    }
    if (count == PCRE2_ERROR_NOMATCH) break;
    if (count < 0) {
      throw UnsupportedError(where_, fmt::format("regex '{}' cannot be matched: {}", pattern_, error_text(count)),
                             "the pattern needs too many steps on this text");
    }
    const std::size_t begin = ends[0];
    const std::size_t end = ends[1];
    if (begin == end && end == last_match_end) {
      // An empty match right behind the last one does not count (as in Rust's onig); go one character on.
      from += from < text.size() ? utf8_length(text[from]) : 1;
      continue;
    }
    from = end;
    last_match_end = end;
    if (covered != begin) slices.push_back({covered, begin, false});
    slices.push_back({begin, end, true});
    covered = end;
  }
  if (covered != text.size()) slices.push_back({covered, text.size(), false});
}

}  // namespace pq
