#include "report/escape.h"

#include <gtest/gtest.h>

namespace pq::report {
namespace {

TEST(VisibleText, ShowsWhatCannotBeSeen) {
  const struct {
    std::string text, visible;
  } rows[] = {
      {"plain text", "plain text"},
      {"a\nb\tc\rd", "a\\nb\\tc\\rd"},
      {std::string("a\0b", 3), "a\\x00b"},
      {"\x1b[31m\x7f", "\\x1b[31m\\x7f"},
      {"\xe2\x80\xae"
       "gnp.exe",
       "\\u{202e}gnp.exe"},                                  // right-to-left override
      {"\xe2\x81\xa6x\xe2\x81\xa9", "\\u{2066}x\\u{2069}"},  // isolates
      {"\xe2\x80\x8b", "\\u{200b}"},                         // zero-width space
      {"\xef\xbb\xbf", "\\u{feff}"},
      {"\xc2\xa0", "\\u{a0}"},
      {"\xe2\x80\xa8", "\\u{2028}"},
      {"\xc2\x85", "\\u{85}"},
      {"\xff\xfe", "\\xff\\xfe"},
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},  // a surrogate
      {"caf\xc3", "caf\\xc3"},
      {"\xef\xbf\xbf", "\\u{ffff}"},
      {"\xee\x80\x80", "\\u{e000}"},  // private use
      {"\xd7\xa9\xd7\x9c", "\xd7\xa9\xd7\x9c"},
      {"\xf0\x9f\x98\x80", "\xf0\x9f\x98\x80"},
      {"\xcc\x81"
       "a\xcc\x81",
       "\\u{301}a\xcc\x81"},  // a mark without a letter
  };
  for (const auto& row : rows) {
    EXPECT_EQ(visible_text(row.text), row.visible);
    EXPECT_EQ(visible_text(row.visible), row.visible);
  }
  std::string tower = "a";
  for (int i = 0; i < 6; ++i) tower += "\xcc\x81";
  EXPECT_EQ(visible_text(tower), "a\xcc\x81\xcc\x81\xcc\x81\xcc\x81\\u{301}\\u{301}");
}

TEST(VisibleToken, ShowsSpacesAtItsEnds) {
  EXPECT_EQ(visible_token(" the"), "␣the");
  EXPECT_EQ(visible_token("  "), "␣␣");
  EXPECT_EQ(visible_token(" a b "), "␣a b␣");
  EXPECT_EQ(visible_token("\n"), "\\n");
  EXPECT_EQ(visible_token(""), "(empty)");
}

TEST(EscapeMarkup, LeavesNoMarkup) {
  EXPECT_EQ(escape_markup("<a href=\"x\">&amp;'</a>\xe2\x80\xae"),
            "&lt;a href=&quot;x&quot;&gt;&amp;amp;&#39;&lt;/a&gt;\\u{202e}");
}

TEST(EscapeMarkdown, LeavesNoMarkup) {
  EXPECT_EQ(escape_markdown("|`*_[x](y)\\ ~$#!"), "&#124;\\`\\*\\_\\[x\\](y)\\\\ \\~\\$\\#\\!");
  EXPECT_EQ(escape_markdown("<b>&amp; @all"), "&#60;b&#62;&#38;amp; &#64;all");
  EXPECT_EQ(escape_markdown("https://x.org :smile: www.x.org"), "https&#58;//x.org &#58;smile: www&#46;x.org");
  EXPECT_EQ(escape_markdown("+ GPTQ"), "\\+ GPTQ");
  EXPECT_EQ(escape_markdown("- a"), "\\- a");
  EXPECT_EQ(escape_markdown("12. a"), "12\\. a");
  EXPECT_EQ(escape_markdown("1) a"), "1\\) a");
  EXPECT_EQ(escape_markdown("w4a4kv4-static, 4.31 (a)"), "w4a4kv4-static, 4.31 (a)");
  EXPECT_EQ(escape_markdown("a\nb"), "a\\\\nb");
}

TEST(EscapeLatex, LeavesNoCommand) {
  EXPECT_EQ(escape_latex("\\input{x} 50% $x_1$ #&~^<>|\""),
            "\\textbackslash{}input\\{x\\} 50\\% \\$x\\_1\\$ "
            "\\#\\&\\textasciitilde{}\\textasciicircum{}\\textless{}\\textgreater{}\\textbar{}\\textquotedbl{}");
}

TEST(EscapeCsv, QuotesWhereItHasTo) {
  EXPECT_EQ(escape_csv("plain"), "plain");
  EXPECT_EQ(escape_csv("a,b"), "\"a,b\"");
  EXPECT_EQ(escape_csv("say \"x\""), "\"say \"\"x\"\"\"");
  EXPECT_EQ(escape_csv(" x"), "\" x\"");
  EXPECT_EQ(escape_csv("a\nb"), "a\\nb");
  for (const char* formula : {"=1+1", "+1", "-1", "@SUM(A1)"})
    EXPECT_EQ(escape_csv(formula), std::string("'") + formula);
}

TEST(QuoteYaml, IsADoubleQuotedScalar) {
  EXPECT_EQ(quote_yaml("a: b # c"), "\"a: b # c\"");
  EXPECT_EQ(quote_yaml("\"\\\n"), "\"\\\"\\\\\\n\"");
  EXPECT_EQ(quote_yaml(std::string("\0\x1b\x85", 3)), "\"\\x00\\x1B\\uFFFD\"");
  EXPECT_EQ(quote_yaml("\xe2\x80\xae\xef\xbb\xbf"), "\"\\u202E\\uFEFF\"");
  EXPECT_EQ(quote_yaml("\xf3\xa0\x80\x81"), "\"\\U000E0001\"");  // a tag character
  EXPECT_EQ(quote_yaml("\xc3\xa9"), "\"\xc3\xa9\"");
}

}  // namespace
}  // namespace pq::report
