#include "report/report_record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "base/error.h"
#include "report/gallery_for_test.h"

namespace pq::report {
namespace {

using testing::HasSubstr;

ReportRecord sample_record() {
  ModelCard card;
  card.name = "m-w4a4kv4";
  card.base = {"other", "llama", {"en"}};
  card.prefix_text = "\xe2\x80\xae";
  card.sizes = {"", {"what", "size"}, {{"all tensors", whole(97'000'000)}}};
  card.commands = {"pq run 'm'"};
  return {sample_quantization(12), card};
}

std::string refusal(const std::function<void(Json&)>& change) {
  Json json = to_json(sample_record());
  change(json);
  try {
    record_from_json(json, "out/report.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(ReportRecord, GivesTheSamePageAndCard) {
  const ReportRecord record = sample_record();
  const ReportRecord back = record_from_json(parse_json(to_json(record).dump(), "test"), "test");
  EXPECT_EQ(to_html(to_page(back.report)), to_html(to_page(record.report)));
  EXPECT_EQ(to_markdown(back.card), to_markdown(record.card));
  EXPECT_TRUE(std::isnan(back.report.site_scales[0][1]));
}

TEST(ReportRecord, RefusesWhatIsNone) {
  EXPECT_EQ(refusal([](Json&) {}), "");
  EXPECT_THAT(refusal([](Json& json) { json = Json::array(); }), HasSubstr("out/report.json: is no record"));
  EXPECT_THAT(refusal([](Json& json) { json["prefixquant_report"] = 9; }), HasSubstr("version 9"));
  EXPECT_THAT(refusal([](Json& json) { json["report"].erase("seconds"); }), HasSubstr("seconds"));
  EXPECT_THAT(refusal([](Json& json) { json["report"]["kinds"][0].erase("kl"); }), HasSubstr("kl"));
  EXPECT_THAT(refusal([](Json& json) { json["report"]["model"] = 3; }), HasSubstr("no record of a report"));
  EXPECT_THAT(refusal([](Json& json) { json["report"]["memory_bytes"] = 1.5; }), HasSubstr("no record of a report"));
  EXPECT_THAT(refusal([](Json& json) { json["report"]["linear_costs"][3].erase(0); }), HasSubstr("linear_costs"));
  EXPECT_THAT(refusal([](Json& json) { json["card"]["sizes"]["rows"][0].erase(0); }), HasSubstr("table"));
  EXPECT_THAT(refusal([](Json& json) { json["report"]["worst"] = "x"; }), HasSubstr("no record of a report"));
}

}  // namespace
}  // namespace pq::report
