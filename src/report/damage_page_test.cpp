#include "report/damage_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "report/gallery_for_test.h"

namespace pq::report {
namespace {

using testing::HasSubstr;
using testing::Not;

TEST(DamagePage, NamesWhatToMendFirst) {
  const QuantizationReport sample = sample_quantization(12);
  DamageReport report;
  report.model = "out";
  report.linears = sample.linears;
  report.linear_errors = sample.linear_errors;
  report.linear_costs = sample.linear_costs;
  report.block_errors = sample.block_errors;
  report.block_kl = sample.block_errors;
  report.worst = sample.worst;
  report.kinds = sample.kinds;
  report.proposal = sample.proposal;
  const std::string html = to_html(to_page(report));
  EXPECT_THAT(html, HasSubstr("Block 11 costs most: 0.12 nats"));
  EXPECT_THAT(html, HasSubstr("Of all kinds of numbers inputs of down_proj cost most: 0.3 nats"));
  EXPECT_THAT(html, HasSubstr("--set linear.down_proj.activation.bits=8"));
  EXPECT_LT(html.find("Which kinds hurt"), html.find("Which single layers hurt"));
  EXPECT_THAT(html, HasSubstr("--set blocks.3.linear.o_proj.weight.bits=8"));
  EXPECT_LT(html.size(), 1'000'000U);

  report.kinds.clear();
  report.proposal = {};
  EXPECT_THAT(to_html(to_page(report)), Not(HasSubstr("Which kinds hurt")));
}

}  // namespace
}  // namespace pq::report
