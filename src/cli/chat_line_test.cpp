#include "cli/chat_line.h"

#include <gtest/gtest.h>

namespace pq::cli {
namespace {

using Kind = ChatLine::Kind;

TEST(ChatLine, OnlyKnownCommandsAreCommands) {
  const struct {
    const char* line;
    Kind kind;
    const char* text;
  } rows[] = {
      {"", Kind::blank, ""},
      {" \t", Kind::blank, ""},
      {"hello", Kind::message, "hello"},
      {"/help", Kind::help, ""},
      {"/reset", Kind::reset, ""},
      {"/reset  ", Kind::reset, ""},
      {"/quit", Kind::quit, ""},
      {"/save a b.json ", Kind::save, "a b.json"},
      {"/save", Kind::save, ""},
      {"/etc/hosts is a file. Why?", Kind::message, "/etc/hosts is a file. Why?"},
      {"/", Kind::message, "/"},
      {"/quitting", Kind::message, "/quitting"},
      {"/quit smoking, but how?", Kind::message, "/quit smoking, but how?"},
      {"/Quit", Kind::message, "/Quit"},
      {"//quit", Kind::message, "/quit"},
      {"//save x", Kind::message, "/save x"},
      {"// a comment of C", Kind::message, "// a comment of C"},
      {"///quit", Kind::message, "///quit"},
      {" /quit", Kind::message, " /quit"},
      {"/quit\nand more", Kind::message, "/quit\nand more"},
  };
  for (const auto& row : rows) {
    const ChatLine line = read_chat_line(row.line);
    EXPECT_EQ(line.kind, row.kind) << row.line;
    EXPECT_EQ(line.text, row.text) << row.line;
  }
}

TEST(ChatLine, NoticesWhatMayBeAMistypedCommand) {
  for (const char* line : {"/rest", "/exit", "/Quit"}) EXPECT_TRUE(resembles_command(line)) << line;
  for (const char* line : {"/etc/hosts", "/", "/what is this", "quit", "/averyveryverylongword"})
    EXPECT_FALSE(resembles_command(line)) << line;
}

}  // namespace
}  // namespace pq::cli
