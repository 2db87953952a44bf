#include "report/figure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "report/axis.h"
#include "report/colour_grid.h"
#include "report/gallery_for_test.h"
#include "report/svg.h"

namespace pq::report {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

std::vector<std::string> labels_of(const AxisSpan& span) {
  std::vector<std::string> labels;
  for (const Tick& tick : span.ticks) labels.push_back(tick.label);
  return labels;
}

AxisSpan span_of(double least, double largest, Scale scale, int most = 6, Zero zero = Zero::as_it_comes) {
  Axis axis;
  axis.scale = scale;
  return axis_span(axis, {least, largest}, most, zero);
}

TEST(AxisSpan, HasRoundTicks) {
  EXPECT_THAT(labels_of(span_of(12.7, 18.2, Scale::linear)),
              ElementsAre("12", "13", "14", "15", "16", "17", "18", "19"));
  EXPECT_THAT(labels_of(span_of(0.02, 0.09, Scale::linear, 6, Zero::where_near)),
              ElementsAre("0", "0.02", "0.04", "0.06", "0.08", "0.1"));
  EXPECT_THAT(labels_of(span_of(-3, 4, Scale::linear)), ElementsAre("-4", "-2", "0", "2", "4"));
  EXPECT_THAT(labels_of(span_of(3, 4500, Scale::log)), ElementsAre("10", "100", "1000"));
  EXPECT_THAT(labels_of(span_of(3, 80, Scale::log)), ElementsAre("2", "5", "10", "20", "50", "100"));
  EXPECT_THAT(labels_of(span_of(12.7, 15, Scale::log)), ElementsAre("12.5", "13", "13.5", "14", "14.5", "15"));
  EXPECT_THAT(labels_of(span_of(1e-3, 1e9, Scale::log)), ElementsAre("0.01", "1", "100", "10⁴", "10⁶", "10⁸"));
  EXPECT_THAT(labels_of(span_of(1.00002, 1.00008, Scale::linear)),
              ElementsAre("1.00002", "1.00003", "1.00004", "1.00005", "1.00006", "1.00007", "1.00008"));
}

TEST(AxisSpan, HasRoomForOneValueAndForNone) {
  for (const Scale scale : {Scale::linear, Scale::log}) {
    for (const double value : {0.5, 7.0, 1e9}) {
      const AxisSpan span = span_of(value, value, scale);
      EXPECT_TRUE(span.contains(value));
      EXPECT_GT(span.to, span.from);
      EXPECT_FALSE(span.ticks.empty());
    }
    Axis axis;
    axis.scale = scale;
    const AxisSpan none = axis_span(axis, {}, 6);
    EXPECT_LT(none.from, none.to);
    EXPECT_TRUE(std::isfinite(none.share(scale == Scale::log ? 1 : 0)));
  }
  EXPECT_TRUE(span_of(0, 0, Scale::linear).contains(0));
  EXPECT_TRUE(span_of(-2, -2, Scale::linear).contains(-2));
  EXPECT_FALSE(span_of(1, 10, Scale::log).contains(0));
}

/// Every tick is inside, they ascend, and their labels differ: for all that a report may have to show.
TEST(AxisSpan, TicksAscendAndDiffer) {
  for (const Scale scale : {Scale::linear, Scale::log}) {
    for (double least = 1e-7; least < 1e7; least *= 7) {
      for (const double factor : {1.0001, 1.03, 1.7, 9.0, 60.0, 1e4, 1e11}) {
        const AxisSpan span = span_of(least, least * factor, scale);
        EXPECT_GE(span.ticks.size(), 1U) << least << " " << factor;
        EXPECT_LE(span.ticks.size(), 16U) << least << " " << factor;
        for (std::size_t i = 0; i < span.ticks.size(); ++i) {
          EXPECT_TRUE(span.contains(span.ticks[i].value)) << least << " " << factor;
          if (i == 0) continue;
          EXPECT_LT(span.ticks[i - 1].value, span.ticks[i].value);
          EXPECT_NE(span.ticks[i - 1].label, span.ticks[i].label) << least << " " << factor;
        }
        EXPECT_TRUE(span.contains(least) && span.contains(least * factor)) << least << " " << factor;
      }
    }
  }
}

TEST(LineChart, DrawsPointsErrorBarsAndReferences) {
  LineChart chart{{"c", "It falls", "d"},
                  {"x", ""},
                  {"y", "ms"},
                  {{"a", {{0, 10, 0, 1}, {1, 2, 0, 0, true, "<i>"}}}},
                  {{5, "limit"}}};
  chart.y.from = 0;
  chart.y.to = 10;
  const Figure figure = draw(chart);
  // The plot is 290 high: y = 10 at its top (32), 2 at four fifths.
  EXPECT_THAT(figure.elements, HasSubstr("<path class=\"l1\" d=\"M39.8 32L728 264\"/>"));
  EXPECT_THAT(figure.elements, HasSubstr("<circle class=\"p1\" cx=\"728\" cy=\"264\" r=\"5\"><title>&lt;i&gt;\nx: 1"));
  EXPECT_THAT(figure.elements,
              HasSubstr("<path class=\"w o1\" d=\"M39.8 61V32M35.8 61h8M35.8 32h8\"/>"));  // cut at the plot's end
  EXPECT_THAT(figure.elements, HasSubstr("limit: 5</text>"));
  EXPECT_THAT(figure.elements, HasSubstr("y (ms)</text>"));
  EXPECT_EQ(to_csv(figure.numbers), "series,point,x,y (ms),±\r\na,,0,10,1\r\na,<i>,1,2,0\r\n");
}

TEST(LineChart, LeavesOutWhatHasNoPlace) {
  const double infinity = std::numeric_limits<double>::infinity();
  const LineChart chart{{"c", "t", ""},
                        {"x", ""},
                        {"y", "", Scale::log},
                        {{"a", {{0, 1}, {1, 0}, {2, -3}, {3, infinity}, {4, std::nan("")}, {5, 10}}}}};
  const Figure figure = draw(chart);
  EXPECT_THAT(figure.elements, Not(HasSubstr("nan")));
  EXPECT_THAT(figure.elements, Not(HasSubstr("inf")));
  std::size_t circles = 0;
  for (std::size_t at = 0; (at = figure.elements.find("<circle", at)) != std::string::npos; ++at) ++circles;
  EXPECT_EQ(circles, 2U);
  EXPECT_EQ(to_csv(figure.numbers), "x,a\r\n0,1\r\n1,0\r\n2,-3\r\n3,inf\r\n4,\r\n5,10\r\n");
}

TEST(LineChart, ThinsLongSeriesAndKeepsTheirPeaks) {
  Series series{"a", {}, Drawing::line};
  for (int i = 0; i < 100000; ++i) series.points.push_back({static_cast<double>(i), i == 54321 ? 900.0 : i % 7 * 1.0});
  const Figure figure = draw(LineChart{{"c", "t", ""}, {"x", ""}, {"y", ""}, {series}});
  EXPECT_LT(figure.elements.size(), 60000U);
  const Figure flat = [&] {
    series.points[54321].y = 3;
    LineChart chart{{"c", "t", ""}, {"x", ""}, {"y", ""}, {series}};
    chart.y.to = 900;
    return draw(chart);
  }();
  EXPECT_NE(figure.elements, flat.elements);
  EXPECT_THAT(to_csv(figure.numbers), HasSubstr("a,largest,54321,900\r\n"));
}

TEST(LineChart, EmptyOnesAreDrawn) {
  const Figure figure = draw(LineChart{{"c", "Nothing was measured", ""}, {"x", ""}, {"y", "", Scale::log}, {}});
  EXPECT_GT(figure.height, 0);
  EXPECT_THAT(figure.elements, Not(HasSubstr("nan")));
}

TEST(BarChart, BeginsAtZeroAndTellsValues) {
  const Figure figure =
      draw(BarChart{{"c", "t", ""}, {"count", ""}, "token", {"a", "<"}, {{"original", {4, std::nan("")}}}});
  EXPECT_THAT(
      figure.elements,
      HasSubstr("<rect class=\"f1\" x=\"60\" y=\"11\" width=\"624\" height=\"14\"><title>a\ncount: 4</title></rect>"));
  EXPECT_THAT(figure.elements, HasSubstr(">&lt;</text>"));
  EXPECT_EQ(to_csv(figure.numbers), "token,original\r\na,4\r\n<,\r\n");
}

TEST(HeatMap, ColoursByLevel) {
  const HeatMap map{{"c", "t", ""}, "block", "linear",  {"0", "1"}, {"q", "k"}, {1, 10, 100, std::nan("")},
                    "error",        "",      Scale::log};
  const Figure figure = draw(map);
  EXPECT_THAT(figure.elements, HasSubstr("height=\"19\"><title>block 0, q\n1</title></rect>"));
  EXPECT_THAT(figure.elements, HasSubstr("class=\"c11\""));
  std::size_t cells = 0;
  for (std::size_t at = 0; (at = figure.elements.find("height=\"19\"><title>", at)) != std::string::npos; ++at) ++cells;
  EXPECT_EQ(cells, 3U);
  EXPECT_THROW(draw(HeatMap{{"c", "t", ""}, "", "", {"0"}, {"q"}, {}, "", ""}), std::logic_error);
}

TEST(ColourRuns, AreARunForEachStretchOfOneColour) {
  const std::vector<double> values{0, 0, 11, 0, 0, 0, 12, 12};
  const ColourScale scale = colour_scale(Scale::linear, values, 0.0, 12.0);
  EXPECT_EQ(scale.level(0), 0);
  EXPECT_EQ(scale.level(11), 11);
  EXPECT_EQ(scale.level(500), 11);
  EXPECT_EQ(scale.level(-1), 0);
  EXPECT_EQ(scale.level(std::nan("")), std::nullopt);
  EXPECT_EQ(
      colour_runs({2, 4, values}, scale, 5, 10, 2, 4),
      "<g stroke-width=\"1.03\" transform=\"translate(5 12) scale(2 4)\"><path class=\"k0\" d=\"M0 0h2m1 0h1M0 1h2\"/>"
      "<path class=\"k11\" d=\"M2 0h1M2 1h2\"/></g>");
}

TEST(Pooled, KeepsTheLargestOfEachCell) {
  const Grid grid = pooled({3, 5, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, std::nan(""), 12, 13, 14, std::nan("")}}, 2, 3);
  EXPECT_EQ(grid.rows, 2U);
  EXPECT_EQ(grid.columns, 3U);
  EXPECT_THAT(std::vector<double>(grid.values.begin(), grid.values.end() - 1), ElementsAre(7, 9, 10, 12, 14));
  EXPECT_TRUE(std::isnan(grid.values.back()));
}

TEST(Landscape, NamesTheTokensThatStandOut) {
  const Landscape landscape{{"c", "t", ""}, {"<s>", " a", ".", "b"}, 3, {900, 1, 1, 1, 1, 1, 1, 40, 1, 1, 1, 1}};
  const Figure figure = draw(landscape);
  EXPECT_THAT(figure.elements, HasSubstr("900  &lt;s&gt;</text>"));
  EXPECT_THAT(to_csv(figure.numbers), HasSubstr("0,<s>,0,900\r\n2,.,1,40\r\n1,␣a,0,1\r\n"));
  EXPECT_THROW(draw(Landscape{{"c", "t", ""}, {"a"}, 2, {1}}), std::logic_error);
}

TEST(PositionStrip, DrawsABarWhereSomethingStands) {
  const PositionStrip strip{
      {"c", "t", ""}, 100, "outlier tokens", {{"original", {{0, 8, "<s>"}, {50, 4, "."}}}, {"behind the prefix", {}}}};
  const Figure figure = draw(strip);
  EXPECT_THAT(figure.elements, HasSubstr("<title>position 0\noutlier tokens: 8\n&lt;s&gt;</title>"));
  EXPECT_THAT(figure.elements, HasSubstr(">none</text>"));
  EXPECT_EQ(
      to_csv(figure.numbers),
      "condition,position,outlier tokens,what\r\noriginal,0,8,<s>\r\noriginal,50,4,.\r\nbehind the prefix,,0,\r\n");
}

TEST(Figures, SayWhatTheyShow) {
  const Figure figure = draw(LineChart{{"f", "A <b> & c", "More"}, {"x", ""}, {"y", ""}, {}});
  EXPECT_THAT(inline_svg(figure), HasSubstr("role=\"img\" aria-labelledby=\"f-t f-d\""));
  EXPECT_THAT(inline_svg(figure),
              HasSubstr("<title id=\"f-t\">A &lt;b&gt; &amp; c</title><desc id=\"f-d\">More</desc>"));
  EXPECT_THAT(standalone_svg(figure), HasSubstr("prefers-color-scheme:dark"));
}

/// No text of a token gets into the picture as markup.
TEST(Figures, HostileTextsStayText) {
  const Page page = sample_page();
  for (const Figure* figure : figures_of(page)) {
    const std::string svg = standalone_svg(*figure);
    for (const char* part :
         {"<script", "<img", "</svg><", "\" onmouseover", "\xe2\x80\xae", "\xef\xbb\xbf", "\x1b", "\xff"})
      EXPECT_THAT(svg, Not(HasSubstr(part))) << figure->caption.id;
    EXPECT_EQ(svg.find('\0'), std::string::npos);
  }
}

}  // namespace
}  // namespace pq::report
