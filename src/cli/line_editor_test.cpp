#include "cli/line_editor.h"

#include <gtest/gtest.h>

#include <string>

namespace pq::cli {
namespace {

using State = LineBuffer::State;

/// The text after these keys, with | where the cursor stands.
std::string typed(const std::string& keys) {
  LineBuffer buffer;
  EXPECT_EQ(buffer.feed(keys), State::typing);
  std::string text = buffer.text();
  return text.insert(buffer.cursor(), "|");
}

TEST(LineBuffer, KeysMoveAndEraseWholeCharacters) {
  EXPECT_EQ(typed("abc"), "abc|");
  EXPECT_EQ(typed("abc\033[D\033[Dx"), "ax|bc");
  EXPECT_EQ(typed("日本\x7f"), "日|");
  EXPECT_EQ(typed("日本\033[D"), "日|本");
  EXPECT_EQ(typed("ae\u0301\x7f"), "a|");  // with its accent
  EXPECT_EQ(typed("ae\u0301\033[D"), "a|e\u0301");
  EXPECT_EQ(typed("\u0301\x7f\x7f"), "|");
  EXPECT_EQ(typed("ab\x01\x04x"), "x|b");
  EXPECT_EQ(typed("ab\033[H\033[3~"), "|b");
  EXPECT_EQ(typed("ab\033[H\033[F!"), "ab!|");
  EXPECT_EQ(typed("one two \x17"), "one |");
  EXPECT_EQ(typed("one\033\rtwo\x15x"), "one\nx|");
  EXPECT_EQ(typed("one\033\rtwo\x01\x0b"), "one\n|");
  EXPECT_EQ(typed("a\033[5~\033[1;2Q\x07\033x"), "a|");  // keys without a meaning do nothing
  EXPECT_EQ(typed("\xff"), "\ufffd|");
}

TEST(LineBuffer, TakesKeysInPieces) {
  LineBuffer buffer;
  for (const char* piece : {"a\xe6", "\x97", "\xa5\033", "[", "D", "b"}) EXPECT_EQ(buffer.feed(piece), State::typing);
  EXPECT_EQ(buffer.text(), "ab日");
}

TEST(LineBuffer, APasteIsOneText) {
  LineBuffer buffer;
  EXPECT_EQ(buffer.feed("> \033[200~one\r\ntwo\rthree\n\033[31mfour\x03"), State::typing);
  EXPECT_EQ(buffer.feed("\033[20"), State::typing);
  EXPECT_EQ(buffer.feed("1~!\rnext"), State::entered);
  EXPECT_EQ(buffer.text(), "> one\ntwo\nthree\n[31mfour!");  // nothing in it steers the terminal or the chat
  EXPECT_EQ(buffer.next_line(), State::typing);
  EXPECT_EQ(buffer.text(), "next");
}

TEST(LineBuffer, EndsAndRemembersLines) {
  LineBuffer buffer;
  EXPECT_EQ(buffer.feed("one\ntwo\r"), State::entered);
  EXPECT_EQ(buffer.text(), "one");
  EXPECT_EQ(buffer.next_line(), State::entered);
  EXPECT_EQ(buffer.text(), "two");
  EXPECT_EQ(buffer.next_line(), State::typing);
  EXPECT_EQ(buffer.feed("half\033[A\033[A\033[A"), State::typing);
  EXPECT_EQ(buffer.text(), "one");
  EXPECT_EQ(buffer.feed("\033[B\033[B\033[B"), State::typing);
  EXPECT_EQ(buffer.text(), "half");
  EXPECT_EQ(buffer.feed("\x03"), State::interrupted);
  EXPECT_EQ(buffer.next_line(), State::typing);
  EXPECT_EQ(buffer.feed("\x1a"), State::suspended);
  EXPECT_EQ(buffer.feed("\x04"), State::ended);
}

TEST(LineEditor, DrawsWideCharactersWithoutBreakingThem) {
  const auto drawn = [](std::string_view text, std::size_t cursor, std::size_t columns) {
    const Drawing drawing = draw_line("> ", text, cursor, columns);
    EXPECT_GT(drawing.rows, drawing.cursor_row);
    return drawing.text + " at " + std::to_string(drawing.cursor_row) + "," + std::to_string(drawing.cursor_column);
  };
  EXPECT_EQ(drawn("ab", 2, 80), "> ab at 0,4");
  EXPECT_EQ(drawn("日本", 3, 80), "> 日本 at 0,4");
  EXPECT_EQ(drawn("e\u0301x", 3, 80), "> e\u0301x at 0,3");
  EXPECT_EQ(drawn("abcd", 4, 6), "> abcd\r\n at 1,0");
  EXPECT_EQ(drawn("abcde", 1, 6), "> abcd\r\ne at 0,3");
  EXPECT_EQ(drawn("abc日", 6, 6), "> abc\r\n日 at 1,2");  // five columns are taken, two do not fit
  EXPECT_EQ(drawn("a\nb", 3, 80), "> a\r\nb at 1,1");
  EXPECT_EQ(drawn("a\x01", 0, 80), "> a? at 0,2");
}

}  // namespace
}  // namespace pq::cli
