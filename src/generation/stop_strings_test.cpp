#include "generation/stop_strings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/random.h"

namespace pq {
namespace {

TEST(StopStrings, HoldsBackWhatMayBecomeOne) {
  StopStrings stop({"User:", "\n\n"});
  EXPECT_EQ(stop.push("Hello Us"), "Hello ");
  EXPECT_EQ(stop.push("e"), "");
  EXPECT_EQ(stop.push("less\n"), "Useless");
  EXPECT_EQ(stop.push("U"), "\n");
  EXPECT_EQ(stop.push("ser"), "");
  EXPECT_FALSE(stop.stopped());
  EXPECT_EQ(stop.push(": more"), "");
  EXPECT_TRUE(stop.stopped());
  EXPECT_EQ(stop.met(), "User:");
  EXPECT_EQ(stop.push("never shown"), "");
  EXPECT_EQ(stop.finish(), "");
}

TEST(StopStrings, TextThatEndsInHalfAStopStringIsShown) {
  StopStrings stop({"</s>"});
  EXPECT_EQ(stop.push("a</"), "a");
  EXPECT_EQ(stop.finish(), "</");
  EXPECT_FALSE(stop.stopped());
}

TEST(StopStrings, TheOneThatEndsFirstCounts) {
  StopStrings nested({"abcd", "bc"});
  EXPECT_EQ(nested.push("xabcd"), "xa");
  EXPECT_EQ(nested.met(), "bc");
  StopStrings same_end({"bc", "abc"});
  EXPECT_EQ(same_end.push("xabc"), "x");
  EXPECT_EQ(same_end.met(), "abc");
}

TEST(StopStrings, OverlapsWithItself) {
  StopStrings stop({"aab"});
  EXPECT_EQ(stop.push("aaa"), "a");
  EXPECT_EQ(stop.push("a"), "a");
  EXPECT_EQ(stop.push("b"), "");
  EXPECT_TRUE(stop.stopped());
}

TEST(StopStrings, Utf8) {
  StopStrings stop({"é!", "。"});
  EXPECT_EQ(stop.push("cafè, caf"), "cafè, caf");
  EXPECT_EQ(stop.push("é"), "");
  EXPECT_EQ(stop.push("?"), "é?");
  EXPECT_EQ(stop.push("日本。語"), "日本");
  EXPECT_EQ(stop.met(), "。");
}

TEST(StopStrings, NoneOrAnEmptyOne) {
  StopStrings none({});
  EXPECT_EQ(none.push("abc"), "abc");
  EXPECT_EQ(none.finish(), "");
  EXPECT_THROW(StopStrings({"a", ""}), InputError);
}

/// However a text is cut into pieces, the same is shown as for the whole, and never what a later piece takes back.
TEST(StopStrings, PiecesDoNotMatter) {
  Random random(1, "stop strings");
  for (int round = 0; round < 3000; ++round) {
    const auto word = [&](std::size_t longest) {
      std::string text;
      for (std::size_t size = 1 + random.below(longest); size > 0; --size)
        text += static_cast<char>('a' + random.below(2));
      return text;
    };
    std::vector<std::string> strings;
    for (std::size_t count = 1 + random.below(3); count > 0; --count) strings.push_back(word(5));
    const std::string text = word(20);

    // The definition: of all places where one ends the first, of those the longest.
    std::string expected = text;
    std::string met;
    for (std::size_t end = 1; end <= text.size() && met.empty(); ++end) {
      for (const std::string& string : strings) {
        if (text.substr(0, end).ends_with(string) && string.size() > met.size()) met = string;
      }
      if (!met.empty()) expected = text.substr(0, end - met.size());
    }
    StopStrings stop(strings);
    std::string shown;
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t size = std::min<std::size_t>(1 + random.below(4), text.size() - at);
      shown += stop.push(text.substr(at, size));
      at += size;
      EXPECT_TRUE(expected.starts_with(shown));
    }
    shown += stop.finish();
    EXPECT_EQ(shown, expected);
    EXPECT_EQ(stop.met(), met);
  }
}

}  // namespace
}  // namespace pq
