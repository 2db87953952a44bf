#include "program/shell_quote.h"

#include <gtest/gtest.h>

namespace pq {
namespace {

TEST(ShellQuote, QuotesWhatAShellWouldSplitOrExpand) {
  EXPECT_EQ(shell_word("out/w4a4kv4-static_1.0"), "out/w4a4kv4-static_1.0");
  EXPECT_EQ(shell_word("my model"), "'my model'");
  EXPECT_EQ(shell_word("$HOME"), "'$HOME'");
  EXPECT_EQ(shell_word("-o"), "./-o");
  EXPECT_EQ(shell_word("it's"), "'it'\\''s'");
  EXPECT_EQ(shell_quoted("plain"), "'plain'");
}

}  // namespace
}  // namespace pq
