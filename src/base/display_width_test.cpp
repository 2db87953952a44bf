#include "base/display_width.h"

#include <gtest/gtest.h>

namespace pq {
namespace {

TEST(DisplayWidth, WideCharactersTakeTwoColumnsAndMarksNone) {
  EXPECT_EQ(display_width(""), 0U);
  EXPECT_EQ(display_width("abc"), 3U);
  EXPECT_EQ(display_width("日本"), 4U);
  EXPECT_EQ(display_width("e\u0301\u0323"), 1U);
  EXPECT_EQ(display_width("\u2581the"), 4U);
  EXPECT_EQ(display_width("\U0001F999"), 2U);
  EXPECT_EQ(display_width("a\xff\xe6"), 3U);
}

TEST(DisplayWidth, ACutLeavesCharactersWhole) {
  EXPECT_EQ(cut_to_width("日本語", 5), "日本");
  EXPECT_EQ(cut_to_width("日本語", 6), "日本語");
  EXPECT_EQ(cut_to_width("e\u0301x", 1), "e\u0301");
  EXPECT_EQ(cut_to_width("abc", 0), "");
  EXPECT_EQ(cut_to_width("\u0301", 0), "\u0301");
}

}  // namespace
}  // namespace pq
