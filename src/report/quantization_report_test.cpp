#include "report/quantization_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "report/gallery_for_test.h"

namespace pq::report {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

TEST(QuantizationReport, NamesTheWorstAndWhatMendsThem) {
  const QuantizationReport report = sample_quantization(12);
  const std::vector<WorstLinear> worst = worst_linears(report);
  ASSERT_EQ(worst.size(), 10U);
  EXPECT_EQ(worst[0].setting, "blocks.11.linear.down_proj.weight.bits=8");
  for (std::size_t i = 1; i < worst.size(); ++i) EXPECT_GE(worst[i - 1].error, worst[i].error);
  const std::string html = to_html(to_page(report));
  EXPECT_THAT(html, HasSubstr("--set blocks.11.linear.down_proj.weight.bits=8"));
  EXPECT_THAT(html, HasSubstr("<bdi>Block 11&#39;s down_proj has the largest error: 0.5</bdi>"));
  EXPECT_THAT(html, HasSubstr("data-name=\"end to end\""));
}

TEST(QuantizationReport, LeavesOutWhatWasNotMeasured) {
  QuantizationReport report;
  report.model = "m";
  report.recipe = "custom";
  report.precision = "W4A16";
  report.seconds = 12;
  EXPECT_THAT(worst_linears(report), IsEmpty());
  const Page page = to_page(report);
  ASSERT_EQ(page.sections.size(), 2U);
  EXPECT_EQ(page.sections[0].id, "cost");
  EXPECT_EQ(page.sections[1].id, "recipe");
  EXPECT_THAT(to_html(page), HasSubstr("custom (W4A16), without a prefix."));

  report.linear_errors = {{std::nan("")}};
  report.linears = {"q_proj"};
  EXPECT_THAT(to_html(to_page(report)), Not(HasSubstr("Which layers hurt")));
}

/// Of 32 blocks, with everything in it: the limit is 8 MB.
TEST(QuantizationReport, IsSmall) { EXPECT_LT(to_html(to_page(sample_quantization(32))).size(), 1'000'000U); }

}  // namespace
}  // namespace pq::report
