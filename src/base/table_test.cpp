#include "base/table.h"

#include <gtest/gtest.h>

#include <stdexcept>

namespace pq {
namespace {

TEST(Table, AlignsWordsLeftAndNumbersRight) {
  Table table({"row", "perplexity", "size"});
  table.add_row({"FP16", "88.76", "12.4 MiB"});
  table.add_row({"+ prefix", "190.03", "-"});
  EXPECT_EQ(table.text(),
            "row       perplexity      size\n"
            "--------  ----------  --------\n"
            "FP16           88.76  12.4 MiB\n"
            "+ prefix      190.03         -\n");
}

TEST(Table, CountsCodePointsNotBytes) {
  Table table({"token", "n"});
  table.add_row({"\u2581the", "1"});
  table.add_row({"abcdef", "20"});
  EXPECT_EQ(table.text(),
            "token    n\n"
            "------  --\n"
            "\u2581the     1\n"
            "abcdef  20\n");
}

TEST(Table, FillsShortRowsAndRefusesLongOnes) {
  Table table({"a", "b"});
  table.add_row({"x"});
  EXPECT_EQ(table.text(), "a  b\n-  -\nx\n");
  EXPECT_THROW(table.add_row({"1", "2", "3"}), std::logic_error);
}

}  // namespace
}  // namespace pq
