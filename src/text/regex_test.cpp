#include "text/regex.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "text/unicode.h"

namespace pq {
namespace {

std::vector<std::string> matches(const std::string& pattern, const std::string& text) {
  std::vector<Slice> slices;
  Regex(pattern, "t").find_all(text, slices);
  std::vector<std::string> found;
  for (const Slice& slice : slices) {
    if (slice.is_match) found.push_back(text.substr(slice.begin, slice.end - slice.begin));
  }
  return found;
}

using Strings = std::vector<std::string>;

TEST(Regex, SpaceIsWhiteSpace) {
  // The property White_Space: 25 characters. PCRE2's own \s would add U+180E.
  std::string all;
  for (char32_t c = 1; c < 0x11000; ++c) {
    if (c < 0xd800 || c > 0xdfff) append_utf8(all, c);
  }
  const Strings spaces = matches("\\s", all);
  EXPECT_EQ(spaces.size(), 25U);
  for (const std::string& space : spaces) EXPECT_TRUE(is_white_space(first_code_point(space)));
  EXPECT_EQ(matches("\\s+", "a\u180eb\u200bc\ufeffd\u0085\u00a0\u3000"), Strings{"\u0085\u00a0\u3000"});
  EXPECT_EQ(matches("[^\\S]", "\u180e "), Strings{" "});
  EXPECT_EQ(matches("[\\S]+", "x\u180ey z"), (Strings{"x\u180ey", "z"}));
  EXPECT_EQ(matches("[^\\s\\p{L}]+", "a\u180e\u200b b"), Strings{"\u180e\u200b"});
}

TEST(Regex, CharactersThatUnicode16Added) {
  EXPECT_EQ(matches("\\p{L}+", "a\U00031350b1"), Strings{"a\U00031350b"});
  EXPECT_EQ(matches("\\p{Lo}", "a\U00031350"), Strings{"\U00031350"});
  EXPECT_EQ(matches("[^\\p{L}\\p{N}]+", "a\U00031350!\U00011f50"), Strings{"!"});
  EXPECT_EQ(matches("\\P{L}+", "1\U00031350!"), (Strings{"1", "!"}));
  EXPECT_EQ(matches("\\p{^L}", "1\U00031350"), Strings{"1"});
  EXPECT_EQ(matches("\\d+", "1\U00011f50\u0663"), Strings{"1\U00011f50\u0663"});
}

TEST(Regex, SyntaxOfOniguruma) {
  EXPECT_EQ(matches("^a$", "a\na\nb"), (Strings{"a", "a"}));
  EXPECT_EQ(matches("\\v", "\x0b\n\x0c"), Strings{"\x0b"});
  EXPECT_EQ(matches("a{,2}b", "aaab"), Strings{"aab"});
  EXPECT_EQ(matches("a{x}", "a{x}"), Strings{"a{x}"});
  EXPECT_EQ(matches("\\u00e9\\x{4e2d}\\x41", "é中A"), Strings{"é中A"});
  EXPECT_EQ(matches("(?i:'S|'t)", "'s'T'S"), (Strings{"'s", "'T", "'S"}));
  EXPECT_EQ(matches("\\w+", "ab_1 \u00e9-x"), (Strings{"ab_1", "\u00e9", "x"}));
  EXPECT_EQ(matches("\\W+", "a, b"), Strings{", "});
  EXPECT_EQ(matches("\\B.", "ab, c"), (Strings{"b", " "}));
  EXPECT_EQ(matches("\\bfoo\\b", "foo foobar foo"), (Strings{"foo", "foo"}));
  EXPECT_EQ(matches("a++b|(?<=x)y", "aabxyy"), (Strings{"aab", "y"}));
  for (const std::string pattern :
       {"\\h",     "\\X",   "\\1",      "(?<n>a)", "(?i)a",    "(*UTF)a", "[a&&b]",  "[[:alpha:]]", "[a[b]]", "[]a]",
        "a{1,3}+", "a{2}?", "\\p{Han}", "\\p{Cn}", "[\\P{L}]", "[\\s-z]", "[a-\\s]", "\\xff",       "\\pL",   "\\"}) {
    EXPECT_THROW(Regex(pattern, "t"), UnsupportedError) << pattern;
  }
  EXPECT_THROW(Regex("a**", "t"), FormatError);
  EXPECT_THROW(Regex(std::string(9000, 'a'), "t"), UnsupportedError);
  EXPECT_THROW(Regex(std::string(4000, '(') + std::string(4000, ')'), "t"), FormatError);
}

TEST(Regex, EmptyMatches) {
  std::vector<Slice> slices;
  Regex("(?=l)", "t").find_all("hello", slices);
  ASSERT_EQ(slices.size(), 5U);  // "he", empty, "l", empty, "lo"
  EXPECT_EQ(slices[1].begin, slices[1].end);
  EXPECT_EQ(slices[4].begin, 3U);
  slices.clear();
  Regex("x*", "t").find_all("", slices);
  EXPECT_EQ(slices.size(), 1U);
}

TEST(Unicode, NormalizationForms) {
  EXPECT_EQ(unicode_normalize("e\u0301 \u212b \ufb01", NormalizationForm::nfc), "\u00e9 \u00c5 \ufb01");
  EXPECT_EQ(unicode_normalize("\u00e9\uac01", NormalizationForm::nfd), "e\u0301\u1100\u1161\u11a8");
  EXPECT_EQ(unicode_normalize("\ufb01\u00b2e\u0301", NormalizationForm::nfkc), "fi2\u00e9");
  EXPECT_EQ(unicode_normalize("\ufb01\u00e9", NormalizationForm::nfkd), "fie\u0301");
  // Two long runs of marks in the wrong order: quadratic time would be minutes.
  std::string marks = "a";
  std::string ordered = "a";
  for (int i = 0; i < 300'000; ++i) marks += "\u0301";
  for (int i = 0; i < 300'000; ++i) marks += "\u0316";
  for (int i = 0; i < 300'000; ++i) ordered += "\u0316";
  for (int i = 0; i < 300'000; ++i) ordered += "\u0301";
  EXPECT_TRUE(unicode_normalize(marks, NormalizationForm::nfd) == ordered);
}

TEST(Unicode, SequencesOfUtf8) {
  const auto state = [](std::string_view text) { return first_utf8_sequence(text).state; };
  EXPECT_EQ(state("a"), Utf8State::complete);
  EXPECT_EQ(state("\xf0\x9f\xa6\x99"), Utf8State::complete);
  EXPECT_EQ(state("\xf0\x9f\xa6"), Utf8State::incomplete);
  EXPECT_EQ(state("\x80"), Utf8State::invalid);
  EXPECT_EQ(state("\xc1\x80"), Utf8State::invalid);
  EXPECT_EQ(state("\xe0\x80\x80"), Utf8State::invalid);
  EXPECT_EQ(state("\xed\xa0\x80"), Utf8State::invalid);
  EXPECT_EQ(state("\xf4\x90\x80\x80"), Utf8State::invalid);
  EXPECT_EQ(state("\xf5"), Utf8State::invalid);
  EXPECT_EQ(first_utf8_sequence("\xf0\x9f"
                                "a")
                .length,
            2U);
  for (char32_t c = 0; c < 0x110000; ++c) {
    if (c >= 0xd800 && c <= 0xdfff) continue;
    std::string text;
    append_utf8(text, c);
    ASSERT_EQ(find_invalid_utf8(text), std::string_view::npos);
    ASSERT_EQ(first_code_point(text), c);
    ASSERT_EQ(utf8_length(text[0]), text.size());
    ASSERT_EQ(last_character("\u00e9" + text), text);
  }
}

}  // namespace
}  // namespace pq
