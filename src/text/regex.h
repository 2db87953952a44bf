#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace pq {

/// A slice of a text: bytes [begin, end), matched or lying between matches.
struct Slice {
  std::size_t begin;
  std::size_t end;
  bool is_match;
};

/// Oniguruma's (Ruby) syntax, which tokenizer.json uses, as PCRE2 has it under UTF and UCP. Classes by general category
/// and \s are written so that they mean Unicode 16 as in Hugging Face tokenizers (PCRE2's own \s holds U+180E, which is
/// none). Throws UnsupportedError naming the part whose meaning differs between the two or that is not known to agree.
std::string translate_regex(std::string_view pattern, std::string_view where);

/// A compiled pattern. Thread-safe.
class Regex {
 public:
  /// Throws UnsupportedError (see translate_regex), FormatError with the pattern and PCRE2's message.
  Regex(std::string_view pattern, std::string_view where);
  /// Slices that cover the whole of `text` (valid UTF-8), in order; an empty text gives one empty slice.
  /// Throws UnsupportedError when the match limit is reached.
  void find_all(std::string_view text, std::vector<Slice>& slices) const;

 private:
  struct Code;
  std::shared_ptr<const Code> code_;
  std::string pattern_;
  std::string where_;
};

}  // namespace pq
