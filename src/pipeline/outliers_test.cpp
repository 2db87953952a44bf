#include "pipeline/outliers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "pipeline/prefix.h"

namespace pq::quant {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

const std::string sample = std::string(PQ_SOURCE_DIR) + "/examples/sample-model";

TEST(Outliers, ThresholdsAreStrictOnBothSides) {
  // Median 1 (odd count): 64 is none, above it is one; 1/8 is none, below it is one.
  at::Tensor maxima = at::ones({2, 9});
  maxima[0][3] = 64.0F;
  maxima[0][4] = 64.01F;
  maxima[1][5] = 0.125F;
  maxima[1][6] = 0.1249F;
  std::vector<std::pair<std::int64_t, std::int64_t>> found;
  const SiteOutliers site =
      measure_outliers(maxima, {}, [&](std::int64_t s, std::int64_t i) { found.emplace_back(s, i); });
  EXPECT_THAT(found, ElementsAre(std::pair<std::int64_t, std::int64_t>{0, 4}));
  EXPECT_EQ(site.mean_upper, 0.5);
  EXPECT_EQ(site.mean_lower, 0.5);
  EXPECT_FLOAT_EQ(static_cast<float>(site.max_ratio), 64.01F);
  EXPECT_NEAR(site.max_inverse_ratio, 1 / 0.1249, 1e-4);
}

TEST(Outliers, TheMedianIsEachSequencesOwnMeanOfTheMiddleTwo) {
  const at::Tensor maxima = at::tensor({1.0F, 3.0F, 2.0F, 1000.0F, 10.0F, 30.0F, 20.0F, 40.0F}).view({2, 4});
  PrefixSettings settings;
  settings.upper_threshold = 399;  // 1000 / 2.5 = 400
  EXPECT_EQ(measure_outliers(maxima, settings).mean_upper, 0.5);
  settings.upper_threshold = 400;
  EXPECT_EQ(measure_outliers(maxima, settings).mean_upper, 0);
}

TEST(Outliers, TokenMaximaTakeAllHeadsAndSigns) {
  at::Tensor x = at::zeros({1, 2, 3, 4});
  x[0][0][2][1] = -7.0F;
  x[0][1][0][0] = 5.0F;
  const at::Tensor maxima = token_maxima(x);
  EXPECT_EQ(maxima[0][0].item<float>(), 7.0F);
  EXPECT_EQ(maxima[0][1].item<float>(), 5.0F);
}

class PrefixChoice : public testing::Test {
 protected:
  std::vector<std::int32_t> choose(const std::string& tokens, std::int64_t count = -1,
                                   const PrefixObjective& objective = {}) const {
    PrefixSettings settings;
    settings.tokens = tokens;
    settings.count = count;
    return choose_prefix(settings, &report, tokenizer, spec, 5, objective);
  }
  Tokenizer tokenizer = Tokenizer::load(sample);
  ModelSpec spec = io::HfCheckpoint::open(sample).spec();
  OutlierReport report;
  void SetUp() override {
    report.outlier_count = 3;
    report.tokens = {{8142, 40, 0.6}, {13, 22, 0.3}, {77, 3, 0.04}};
  }
};

TEST_F(PrefixChoice, TakesTheMostFrequentThenBos) {
  EXPECT_THAT(choose("auto"), ElementsAre(8142, 13, 1));  // 77 is noise, however large o is
  report.outlier_count = 1;
  EXPECT_THAT(choose("auto"), ElementsAre(8142, 1));
  report.tokens.clear();
  EXPECT_THAT(choose("auto"), ElementsAre(1));
}

TEST_F(PrefixChoice, AnObjectivePicksAmongTheFirstIds) {
  std::vector<std::size_t> asked;
  const auto best_at = [&](std::size_t length) {
    return [&asked, length](const std::vector<std::int32_t>& ids) {
      asked.push_back(ids.size());
      return std::fabs(static_cast<double>(ids.size()) - static_cast<double>(length));
    };
  };
  EXPECT_THAT(choose("auto", -1, best_at(2)), ElementsAre(8142, 13));
  EXPECT_THAT(asked, ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(choose("auto", -1, best_at(0)), IsEmpty());
  EXPECT_THAT(choose("auto", -1, best_at(9)), ElementsAre(8142, 13, 1));
  asked.clear();
  EXPECT_THAT(choose("auto", 1, best_at(9)), ElementsAre(8142));  // the count cuts first
  EXPECT_THAT(asked, ElementsAre(0, 1));
  EXPECT_THAT(choose("none", -1, [](const auto&) -> double { throw std::logic_error("not asked"); }), IsEmpty());
  EXPECT_THAT(choose("auto", -1, [](const auto&) { return 1.0; }), IsEmpty());  // the fewest of equals
  const double none = std::nan("");
  EXPECT_THAT(choose("auto", -1, [&](const auto&) { return none; }), ElementsAre(8142, 13, 1));
  EXPECT_THAT(choose("auto", -1, [&](const auto& ids) { return ids.size() == 1 ? 4.0 : none; }), ElementsAre(8142));
}

TEST_F(PrefixChoice, SettingsOfTheAblations) {
  EXPECT_THAT(choose("none"), IsEmpty());
  EXPECT_THAT(choose("auto", 0), IsEmpty());
  EXPECT_THAT(choose("auto", 2), ElementsAre(8142, 13));
  EXPECT_THAT(choose("top1:3"), ElementsAre(8142, 8142, 8142));
  EXPECT_EQ(choose("random:4").size(), 4U);
  EXPECT_EQ(choose("random:4"), choose("random:4"));
  EXPECT_THAT(choose("ids:5,6"), ElementsAre(5, 6));
  EXPECT_THAT(choose("\\n[BOS]").back(), 1);
  EXPECT_EQ(choose("the end"), tokenizer.encode("the end", false));
  EXPECT_THROW(choose("ids:8192"), InputError);
  EXPECT_THROW(choose("ids:x"), InputError);
  EXPECT_THROW(choose("random:0"), InputError);
  EXPECT_THROW(choose("top1:99"), InputError);
}

}  // namespace
}  // namespace pq::quant
