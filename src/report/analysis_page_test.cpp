#include "report/analysis_page.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "report/analysis_figures.h"

namespace pq::report {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

const std::string hostile = "</script><b>\u202e";

TokenMaxima maxima(double top, double median, double least) {
  TokenMaxima made;
  made.top = {top, median * 1.5, median * 1.2};
  made.median = median;
  made.least = {least, median * 0.8, median * 0.9};
  made.top_ratio = top / median;
  made.least_ratio = median / least;
  made.top_token = {0, 0, 5, hostile};
  made.least_token = {0, 1, 6, "."};
  return made;
}

/// Three blocks of 10 tokens; down_proj's input has an outlier of `top` in block 1.
ConditionAnalysis condition(const std::string& key, const std::string& name, double top, double least) {
  ConditionAnalysis made;
  made.key = key;
  made.name = name;
  for (int i = 0; i < 3; ++i) {
    BlockAnalysis block;
    for (const WatchedRow& tensor : watched_rows) block.maxima[tensor.id] = maxima(2, 1, 0.5);
    if (i == 1) {
      block.maxima[Watched::down_input] = maxima(top, 1, 0.5);
      block.maxima[Watched::key] = maxima(2, 1, least);
    }
    block.error.mean_squared_error = top;
    block.error.worst_share = {0.5, 0.75, 0.8};
    block.error.worst_tokens = {TokenPlace{0, 0, 5, hostile}, TokenPlace{0, 4, 6, "."}, TokenPlace{0, 2, 7, "a"}};
    MagnitudeMap map{10, 4, 2, std::vector<float>(40, 1)};
    map.magnitudes[0] = static_cast<float>(top);
    block.magnitudes = map;
    made.blocks.push_back(block);
  }
  for (int i = 0; i < 10; ++i) made.first_sequence.push_back({0, i, 5 + i, i == 0 ? hostile : "w"});
  return made;
}

ModelAnalysis example() {
  ModelAnalysis made;
  made.model = "org/model<1>";
  made.calibration = "self";
  made.sequences = 2;
  made.length = 10;
  made.upper_threshold = 64;
  made.lower_threshold = 8;
  made.error_sequences = 2;
  made.prefix_setting = "auto";
  made.prefix = {{0, 0, 6, "."}, {0, 1, 1, "<s>"}};
  made.conditions = {condition("original", "original", 500, 0.02), condition("rotated", "rotated", 90, 0.02),
                     condition("prefixed", "rotated, behind the prefix", 3, 0.25)};
  OutlierTokens before;
  before.per_sequence = {0, 1.5, 0};
  before.most_per_sequence = 2;
  before.tokens = {{6, ".", 2, 1}, {9, hostile, 1, 0.5}};
  before.position_counts = {2, 0, 0, 0, 1};
  made.conditions[0].outliers = before;
  OutlierTokens after;
  after.per_sequence = {0, 0, 0};
  after.position_counts = {2};
  made.conditions[2].outliers = after;
  made.prefix_attention = {{0.1, 0.2}, {0.6, 0.9}, {0.3, 0.4}};
  made.generated = GeneratedOutliers{4, 508, 0, 12.5, {}};
  made.last_drawn = 2;
  return made;
}

TEST(AnalysisPage, SaysInOneSentenceWhatThePrefixDoesToEveryRatio) {
  EXPECT_EQ(
      finding_of(example()),
      "Behind the prefix “.” “<s>”, rotated, the largest top-1 over median goes from 2 to 2 at the input of q, k "
      "and v_proj, from 2 to 2 at the input of o_proj, from 2 to 2 at the input of gate and up_proj, from 500 to 3 "
      "at the input of down_proj and from 2 to 2 at the output of the block, and the largest median over least-1 "
      "from 2 to 2 at Q, from 50 to 4 at K and from 2 to 2 at V.");
}

TEST(AnalysisPage, SaysByWhichCountsThePrefixWasChosen) {
  ModelAnalysis analysis = example();
  EXPECT_EQ(choice_of_prefix(analysis),
            "The prefix is “.” “<s>”: the block with most outlier tokens has 2 a sequence (rounded up, the first "
            "position counted); beyond that position “.” was one 2 times in 100% of the sequences, and “<s>”, which "
            "starts a text, stands last.");
  analysis.prefix_setting = "ids:6,1";
  EXPECT_EQ(choice_of_prefix(analysis), "The prefix “.” “<s>” was asked for (--prefix ids:6,1).");
}

TEST(AnalysisPage, HasAPictureForEveryTensorConditionAndBlock) {
  const ModelAnalysis analysis = example();
  const Page page = analysis_page(analysis);
  const std::string html = to_html(page);  // throws where ids are not unique
  EXPECT_THAT(html, AllOf(HasSubstr("id=\"maxima-down-input-original\""), HasSubstr("id=\"maxima-value-prefixed\""),
                          HasSubstr("id=\"magnitudes-2-rotated\""), HasSubstr("id=\"error-block-0\""),
                          HasSubstr("id=\"prefix-attention\""), HasSubstr("id=\"outlier-positions\"")));
  // 3 of outliers, 8 x 3 maxima, 2 errors, attention, 3 x (3 magnitudes and an error).
  EXPECT_EQ(figures_of(page).size(), 3U + 24U + 2U + 1U + 12U);
  EXPECT_THAT(html, AllOf(Not(HasSubstr(hostile)), Not(HasSubstr("\u202e")), Not(HasSubstr("<b>")),
                          HasSubstr("org/model&lt;1&gt;")));
}

TEST(AnalysisPage, MarksTheLargestRatioOfBothEnds) {
  const ModelAnalysis analysis = example();
  const auto& tensor = watched_rows[static_cast<std::size_t>(Watched::key)];
  const Figure figure = maxima_figure(analysis, analysis.conditions[0], tensor);
  EXPECT_EQ(figure.caption.title,
            "K, original: top-1 is up to 2 times the median (block 0), the median up to 50 times least-1 (block 1)");
  EXPECT_THAT(figure.elements, AllOf(HasSubstr("top-1/median 2"), HasSubstr("median/least-1 50")));
  EXPECT_EQ(ratio_table(analysis).rows.size(), watched_rows.size());
}

TEST(AnalysisPage, SaysSoWhereNoTokenIsAnOutlier) {
  ModelAnalysis analysis = example();
  OutlierTokens none;
  none.per_sequence = {0, 0, 0};
  analysis.conditions[0].outliers = none;
  analysis.conditions[2].outliers = none;
  analysis.prefix = {{0, 0, 1, "<s>"}};
  EXPECT_THAT(finding_of(analysis),
              testing::StartsWith("No token is an outlier, and so the prefix is what starts a text: "));
  const std::string html = to_html(analysis_page(analysis));
  EXPECT_THAT(html, AllOf(HasSubstr("none is larger than 64 times the median of its sequence"),
                          Not(HasSubstr("outlier-positions"))));
}

TEST(AnalysisPage, StandsWithoutPrefixRotationAndDrawnBlocks) {
  ModelAnalysis analysis = example();
  analysis.conditions.resize(1);
  analysis.prefix.clear();
  analysis.prefix_attention.clear();
  analysis.generated.reset();
  analysis.first_drawn = analysis.last_drawn = 1;
  const std::string html = to_html(analysis_page(analysis));
  EXPECT_THAT(html, AllOf(HasSubstr("There is no prefix"), HasSubstr("magnitudes-1-original"),
                          Not(HasSubstr("magnitudes-0-original"))));
  EXPECT_THAT(finding_of(analysis), HasSubstr("500 times the median at the input of down_proj (block 1)"));
}

TEST(AnalysisPage, JsonHasEveryNumber) {
  const Json json = to_json(example());
  EXPECT_EQ(json["prefix_token_ids"], Json({6, 1}));
  EXPECT_EQ(json["outlier_count"], 2);
  const Json& row = json["conditions"][0]["blocks"][1]["down_input"];
  EXPECT_EQ(row["top"][0], 500);
  EXPECT_EQ(row["max_ratio"], 500);
  EXPECT_EQ(row["top_token"]["text"], hostile);
  EXPECT_EQ(json["conditions"][0]["blocks"][2]["error"]["worst_share"][1], 0.75);
  EXPECT_EQ(json["conditions"][2]["outliers"]["position_counts"], Json({2}));
  EXPECT_FALSE(json["conditions"][1].contains("outliers"));
  EXPECT_EQ(json["prefix_attention"][1][1], 0.9);
  EXPECT_EQ(json["generated"]["generated_tokens"], 508);
}

}  // namespace
}  // namespace pq::report
