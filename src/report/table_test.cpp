#include "report/table.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "report/number.h"

namespace pq::report {
namespace {

TEST(ShortNumber, HasItsDigitsAndNoMore) {
  const struct {
    double value;
    int digits;
    const char* text;
  } rows[] = {{0, 4, "0"},
              {-0.0, 4, "0"},
              {12.34567, 4, "12.35"},
              {0.00123456, 3, "0.00123"},
              {1234.5, 4, "1234"},
              {123456, 3, "123456"},
              {1.5e9, 4, "1.5e9"},
              {9.9996e6, 4, "1e7"},
              {1e-5, 4, "1e-5"},
              {-2.5, 4, "-2.5"},
              {100, 3, "100"},
              {0.5, 4, "0.5"},
              {9.99999, 3, "10"},
              {2310.4, 5, "2310.4"},
              {std::nan(""), 4, "-"},
              {std::numeric_limits<double>::infinity(), 4, "inf"}};
  for (const auto& row : rows) EXPECT_EQ(short_number(row.value, row.digits), row.text) << row.value;
}

TEST(Coordinate, HasOneDigitBehindThePoint) {
  EXPECT_EQ(coordinate(12.04), "12");
  EXPECT_EQ(coordinate(12.06), "12.1");
  EXPECT_EQ(coordinate(-0.01), "0");
  EXPECT_EQ(coordinate(100), "100");
}

TEST(TickLabel, WritesLargePowersAsSuch) {
  EXPECT_EQ(tick_label(1000), "1000");
  EXPECT_EQ(tick_label(1e4), "10⁴");
  EXPECT_EQ(tick_label(1e-12), "10⁻¹²");
  EXPECT_EQ(tick_label(2e5), "200000");
}

Table two_rows() {
  Table table{"Rows & numbers", {"recipe", "perplexity", "a|b"}, {}};
  table.rows.push_back({"<b>", fixed(13.9, 2), number(std::nan(""))});
  table.rows.push_back({"x_1", fixed(1234.5, 2), token(" y")});
  return table;
}

TEST(Table, AsHtml) {
  EXPECT_EQ(to_html(two_rows()),
            "<table><caption><bdi>Rows &amp; numbers</bdi></caption><thead><tr><th scope=\"col\"><bdi>recipe</bdi></th>"
            "<th scope=\"col\" class=\"n\"><bdi>perplexity</bdi></th><th scope=\"col\"><bdi>a|b</bdi></th></tr></thead>"
            "<tbody>\n<tr><th scope=\"row\"><bdi>&lt;b&gt;</bdi></th><td class=\"n\">13.90</td><td>-</td></tr>\n"
            "<tr><th scope=\"row\"><bdi>x_1</bdi></th><td class=\"n\">1234.50</td><td><bdi>␣y</bdi></td></tr>\n"
            "</tbody></table>\n");
}

TEST(Table, AsMarkdown) {
  EXPECT_EQ(
      to_markdown(two_rows()),
      "| recipe | perplexity | a&#124;b |\n|---|---:|---|\n| &#60;b&#62; | 13.90 | - |\n| x\\_1 | 1234.50 | ␣y |\n");
}

TEST(Table, AsCsvWithNumbersInFull) {
  Table table = two_rows();
  table.rows[0][1] = number(1.0 / 3);
  EXPECT_EQ(to_csv(table), "recipe,perplexity,a|b\r\n<b>,0.3333333333333333,\r\nx_1,1234.5,␣y\r\n");
}

TEST(Table, AsLatex) {
  Table table = two_rows();
  table.rows[1][0] = Cell("[x]");  // "\\ [x]" would be a length
  EXPECT_EQ(
      to_latex(table),
      "% Rows \\& numbers\n\\begin{tabular}{lrl}\n\\toprule\nrecipe & perplexity & a\\textbar{}b \\\\\n\\midrule\n"
      "\\textless{}b\\textgreater{} & 13.90 & - \\\\\n{}[x] & 1234.50 & ␣y \\\\\n\\bottomrule\n\\end{tabular}\n");
}

TEST(Table, FillsShortRows) {
  const Table table{"", {"a", "b"}, {{"x"}}};
  EXPECT_EQ(to_markdown(table), "| a | b |\n|---|---|\n| x | |\n");
  EXPECT_EQ(to_csv(table), "a,b\r\nx,\r\n");
}

}  // namespace
}  // namespace pq::report
