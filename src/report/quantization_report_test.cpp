#include "report/quantization_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "report/gallery_for_test.h"

namespace pq::report {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(QuantizationReport, NamesTheWorstAndWhatMendsThem) {
  const QuantizationReport report = sample_quantization(12);
  const std::string html = to_html(to_page(report));
  EXPECT_THAT(html, HasSubstr("--set blocks.11.linear.down_proj.weight.bits=8 "
                              "--set blocks.11.linear.down_proj.activation.bits=8"));
  EXPECT_THAT(html, HasSubstr("<bdi>Block 11&#39;s down_proj has the largest output error: 0.5</bdi>"));
  EXPECT_THAT(html,
              HasSubstr("<bdi>Block 11&#39;s down_proj has the largest error in the block&#39;s output: 0.1</bdi>"));
  EXPECT_THAT(html, HasSubstr("data-name=\"end to end\""));
}

TEST(QuantizationReport, PutsKindsBeforeSingleLayers) {
  QuantizationReport report = sample_quantization(12);
  const Page page = to_page(report);
  EXPECT_EQ(page.sections[0].id, "kinds");
  EXPECT_EQ(page.sections[1].id, "layers");
  const std::string html = to_html(page);
  EXPECT_THAT(html, HasSubstr("inputs of down_proj cost most of all kinds of numbers: alone they move the logits by "
                              "0.3 nats"));
  EXPECT_THAT(html, HasSubstr("To mend first: inputs of down_proj; weights of o_proj in block 3. The model then has "
                              "4.28 bits a weight, now 4.27."));
  EXPECT_THAT(html, HasSubstr(report.proposal.command));
  EXPECT_THAT(html, HasSubstr("--set linear.gate_proj.weight.bits=8 --set linear.up_proj.weight.bits=8"));

  report.kinds.clear();  // as of a run that measured none
  report.proposal = {};
  EXPECT_THAT(to_html(to_page(report)), Not(HasSubstr("Which kinds hurt")));
}

TEST(QuantizationReport, LeavesOutWhatWasNotMeasured) {
  QuantizationReport report;
  report.model = "m";
  report.recipe = "custom";
  report.precision = "W4A16";
  report.seconds = 12;
  const Page page = to_page(report);
  ASSERT_EQ(page.sections.size(), 2U);
  EXPECT_EQ(page.sections[0].id, "cost");
  EXPECT_EQ(page.sections[1].id, "recipe");
  EXPECT_THAT(to_html(page), HasSubstr("custom (W4A16), without a prefix."));

  report.linear_errors = {{std::nan("")}};
  report.linears = {"q_proj"};
  EXPECT_THAT(to_html(to_page(report)), Not(HasSubstr("layers hurt")));
}

/// Of 32 blocks, with everything in it: the limit is 8 MB.
TEST(QuantizationReport, IsSmall) { EXPECT_LT(to_html(to_page(sample_quantization(32))).size(), 1'000'000U); }

}  // namespace
}  // namespace pq::report
