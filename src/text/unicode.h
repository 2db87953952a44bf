#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace pq {

/// Characters `first` to `last` of one general category ("Lo").
struct CategoryRange {
  char32_t first;
  char32_t last;
  char category[3];
};

/// What Unicode 16 (Oniguruma in Hugging Face tokenizers 0.23) assigns and Unicode 14 (PCRE2 10.42) does not.
/// Source: \p{..} of that library over every code point, less PCRE2's.
std::span<const CategoryRange> unicode_additions();

enum class Utf8State { complete, incomplete, invalid };

/// The first sequence of a non-empty text. `length` in bytes: of the character (complete), of all that is left
/// (incomplete: more bytes could complete it), or of the maximal invalid part, which becomes one U+FFFD (invalid).
struct Utf8Sequence {
  Utf8State state;
  std::size_t length;
};
Utf8Sequence first_utf8_sequence(std::string_view text) noexcept;

/// Offset of the first byte that is not part of valid UTF-8, or npos.
std::size_t find_invalid_utf8(std::string_view text) noexcept;

/// Length in bytes of the character that starts with `lead`, in valid UTF-8.
inline std::size_t utf8_length(char lead) noexcept {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xe0 ? 2 : byte < 0xf0 ? 3 : 4;
}
/// The first character of valid, non-empty UTF-8.
char32_t first_code_point(std::string_view text) noexcept;
/// The last character of valid, non-empty UTF-8, as a part of `text`.
std::string_view last_character(std::string_view text) noexcept;
void append_utf8(std::string& out, char32_t code_point);

inline constexpr std::string_view replacement_character = "\xEF\xBF\xBD";

/// Moves what is complete from `pending` to `out`, each maximal invalid part as U+FFFD (as Rust's from_utf8_lossy).
/// An incomplete end waits in `pending` unless `at_end`.
void drain_utf8(std::string& pending, std::string& out, bool at_end);

/// The Unicode property White_Space.
bool is_white_space(char32_t c) noexcept;
/// General category N.
bool is_numeric(char32_t c) noexcept;
struct CodeRange {
  char32_t first;
  char32_t last;
};
/// Symbols that are letters all the same: in circles and squares.
inline constexpr CodeRange alphabetic_symbols[] = {
    {0x24b6, 0x24e9}, {0x1f130, 0x1f149}, {0x1f150, 0x1f169}, {0x1f170, 0x1f189}};
/// General categories, whole or by their first letter, whose characters are all \w.
inline constexpr std::string_view word_categories[] = {"L", "M", "Nd", "Nl", "Pc"};

/// \w of UTS 18: Alphabetic, M, Nd, Pc, Join_Control.
bool is_word(char32_t c) noexcept;

/// What the pre-tokenizer Punctuation of Hugging Face tokenizers 0.23 takes for punctuation: that of ASCII, symbols
/// included, and general category P of Unicode 7. Source: that library over every code point.
bool is_punctuation(char32_t c) noexcept;
/// General category M.
bool is_mark(char32_t c) noexcept;

/// Appends the lower case of a character, two where that is "i" with a dot; a sigma does not know where it stands.
void append_lower_case(std::string& out, char32_t c);

enum class NormalizationForm { nfc, nfd, nfkc, nfkd };
/// `text` is valid UTF-8. Of utf8proc's Unicode version; Hugging Face's tables are of Unicode 11, so that NFKC and NFKD
/// of some characters added since differ. Throws SystemError (out of memory).
std::string unicode_normalize(std::string_view text, NormalizationForm form);

}  // namespace pq
