#include "measure/speed_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

namespace pq::measure {
namespace {

using testing::AllOf;
using testing::DoubleEq;
using testing::ElementsAre;
using testing::HasSubstr;

BenchRow row_of(const std::string& recipe, bool quantized, std::vector<double> rates) {
  BenchRow row{.shape = "s", .recipe = recipe, .test = "pp1", .group = "g", .quantized = quantized};
  row.limit = "int8 peak";
  row.limits_per_second.assign(rates.size(), 100.0);
  row.tokens_per_second = std::move(rates);
  return row;
}

TEST(SpeedReport, MediansSharesAndPairedRatios) {
  // The machine was at half its speed in the third turn: ratios and medians are not misled.
  BenchReport report{.kernels = "scalar", .processor = "p", .threads = 1, .repetitions = 3};
  report.rows = {row_of("bf16", false, {10, 10, 5}), row_of("w4a8kv4-static", true, {20, 21, 10}),
                 row_of("w4a8kv4-dynamic", true, {20, 20, 10}), row_of("w4a4kv4-static", true, {22, 20, 10})};
  report.rows[1].limits_per_second = {40, 40, 20};
  EXPECT_DOUBLE_EQ(report.rows[1].median(), 20);
  EXPECT_DOUBLE_EQ(report.rows[1].limit_share(), 0.5);
  EXPECT_DOUBLE_EQ(report.rows[1].spread(), 11.0 / 20);
  std::vector<std::pair<std::string, double>> found;
  for (const BenchRatio& ratio : ratios_of(report.rows))
    found.emplace_back(ratio.recipe + "/" + ratio.over, ratio.ratio);
  EXPECT_THAT(found, ElementsAre(testing::Pair("w4a8kv4-static/bf16", DoubleEq(2.0)),
                                 testing::Pair("w4a8kv4-static/w4a8kv4-dynamic", DoubleEq(1.0)),
                                 testing::Pair("w4a8kv4-dynamic/bf16", DoubleEq(2.0)),
                                 testing::Pair("w4a4kv4-static/bf16", DoubleEq(2.0)),
                                 testing::Pair("w4a4kv4-static/w4a8kv4-static", DoubleEq(1.0))));
  EXPECT_FALSE(report_json(report)["rows"][1].contains("vector_limit_share"));
  report.rows[1].vector_limits_per_second = {25, 25, 12.5};
  EXPECT_DOUBLE_EQ(report_json(report)["rows"][1]["vector_limit_share"].get<double>(), 0.8);
  EXPECT_THAT(report_text(report), HasSubstr("80.0%"));
  report.rows[2].group = "another";
  EXPECT_EQ(ratios_of(report.rows).size(), 3U);
  EXPECT_THAT(report_text(report), AllOf(HasSubstr("share of limit"), HasSubstr("50.0%"), HasSubstr("2.00x")));
}

}  // namespace
}  // namespace pq::measure
