#include "pipeline/model_analysis.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/error.h"
#include "base/error_for_test.h"
#include "base/log.h"
#include "nn/transformer.h"
#include "numerics/order_statistics.h"
#include "numerics/outlier_tokens.h"
#include "pipeline/block_statistics.h"
#include "pipeline/outlier_model_for_test.h"
#include "pipeline/prefix.h"
#include "pipeline/prefix_stream.h"
#include "pipeline/streams.h"
#include "quant/quantizer.h"

namespace pq::quant {
namespace {

namespace fs = std::filesystem;
using report::Watched;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

const std::string sample = std::string(PQ_SOURCE_DIR) + "/examples/sample-model";
const std::string prose = std::string(PQ_SOURCE_DIR) + "/examples/prose.txt";
const auto floats = at::TensorOptions().dtype(at::kFloat);

Recipe quick(std::int64_t samples, std::int64_t length) {
  Recipe recipe = named_recipe("w4a4kv4-static");
  recipe.calibration.samples = samples;
  recipe.calibration.length = length;
  recipe.search.samples = 1;
  recipe.search.length = length;
  return recipe;
}

/// Sequences of words that are one token each, all different within a sequence, with a token at some place in each.
class KnownText {
 public:
  static constexpr std::int64_t sequences = 3, length = 40;

  KnownText() : tokenizer_(Tokenizer::load(sample)) {
    for (std::int32_t id = 300; words_.size() < 39 * sequences + 1; ++id) {
      std::string text = tokenizer_.decode(std::vector<std::int32_t>{id}, true);
      const bool letters =
          !text.empty() && std::all_of(text.begin(), text.end(), [](char c) { return c >= 'a' && c <= 'z'; });
      if (letters && tokenizer_.encode(text, false) == std::vector<std::int32_t>{id}) words_.push_back({id, text});
    }
  }
  std::int32_t full_stop() const { return tokenizer_.encode("word.", false).back(); }
  /// A word that stands nowhere of itself.
  std::int32_t rare_word() const { return words_.back().first; }

  /// Writes the text: full stops at `stops` of every sequence, the rare word at `rare`; -1: nowhere. Returns its path.
  std::string write(const std::vector<std::int64_t>& stops, std::int64_t rare) const {
    const fs::path path = fs::path(testing::TempDir()) / "pq_known_text.txt";
    std::ofstream out(path);
    std::size_t word = 0;
    for (std::int64_t s = 0; s < sequences; ++s) {
      for (std::int64_t i = 0; i < length; ++i) {
        if (std::find(stops.begin(), stops.end(), i) != stops.end()) {
          out << '.';
          continue;
        }
        if (s + i > 0) out << ' ';
        out << (i == rare ? words_.back().second : words_[word++].second);
      }
    }
    return path.string();
  }

 private:
  Tokenizer tokenizer_;
  std::vector<std::pair<std::int32_t, std::string>> words_;
};

class KnownOutliers : public testing::Test {
 protected:
  report::ModelAnalysis analyze(const OutlierModel& model, const std::string& path) const {
    Preparation preparation(model.path(), path, floats);
    AnalysisSettings settings;
    settings.generated_sequences = 1;
    settings.generated_length = 16;
    const Recipe recipe = quick(KnownText::sequences + 1, KnownText::length);
    report::ModelAnalysis analysis = analyze_model(preparation, recipe, settings);
    EXPECT_EQ(analysis.sequences, KnownText::sequences);
    EXPECT_EQ(analysis.length, KnownText::length);
    EXPECT_EQ(analysis.conditions.size(), 3U);
    // The pass that `quantize` makes finds the same.
    const OutlierReport report = preparation.outliers(recipe);
    EXPECT_EQ(report.position_counts, analysis.conditions[0].outliers->position_counts);
    EXPECT_EQ(report.outlier_count, analysis.conditions[0].outliers->most_per_sequence);
    std::vector<std::int32_t> prefix;
    for (const report::TokenPlace& token : analysis.prefix) prefix.push_back(token.id);
    EXPECT_EQ(preparation.prefix(recipe), prefix);
    return analysis;
  }
  static std::vector<std::int32_t> prefix_of(const report::ModelAnalysis& analysis) {
    std::vector<std::int32_t> ids;
    for (const report::TokenPlace& token : analysis.prefix) ids.push_back(token.id);
    return ids;
  }
  /// Zeros, but for these counts.
  static std::vector<std::int64_t> counts(const std::map<std::int64_t, std::int64_t>& at) {
    std::vector<std::int64_t> all;
    for (const auto& [position, count] : at) {
      all.resize(static_cast<std::size_t>(position) + 1);
      all.back() = count;
    }
    return all;
  }
  /// Where every outlier stands in one block.
  static void expect_only_in_block_2(const report::OutlierTokens& outliers, double per_sequence) {
    EXPECT_THAT(outliers.per_sequence, ElementsAre(0, 0, per_sequence));
  }
  KnownText text;
};

TEST_F(KnownOutliers, TheFirstTokenAlone) {
  const OutlierModel model({.first = true});
  const report::ModelAnalysis found = analyze(model, text.write({11, 25}, -1));
  const report::OutlierTokens& before = *found.conditions[0].outliers;
  EXPECT_EQ(before.most_per_sequence, 1);
  EXPECT_THAT(before.tokens, IsEmpty());
  EXPECT_EQ(before.position_counts, counts({{0, 3}}));
  expect_only_in_block_2(before, 1);
  EXPECT_THAT(prefix_of(found), ElementsAre(1));
  const report::OutlierTokens& after = *found.conditions[2].outliers;
  EXPECT_EQ(after.position_counts, counts({{0, 3}}));  // the prefix, once a sequence
  EXPECT_THAT(after.tokens, IsEmpty());
  expect_only_in_block_2(after, 0);
  // 50 silu(200 (1 - 0.92)) over silu(2).
  const report::TokenMaxima& maxima = found.conditions[0].blocks[2].maxima[Watched::down_input];
  EXPECT_NEAR(maxima.top_ratio, 50 * 16 / 1.7616, 2);
  EXPECT_EQ(maxima.top_token.position, 0);
  EXPECT_LT(found.conditions[2].blocks[2].maxima[Watched::down_input].top_ratio, 1.5);
  ASSERT_TRUE(found.generated);
  EXPECT_EQ(found.generated->tokens, 15);  // without the one that was given
}

TEST_F(KnownOutliers, TheFirstTokenAndTheFirstFullStop) {
  const OutlierModel model({.first = true, .special = true, .special_id = text.full_stop()});
  const report::ModelAnalysis found = analyze(model, text.write({11, 25}, -1));
  const report::OutlierTokens& before = *found.conditions[0].outliers;
  EXPECT_EQ(before.most_per_sequence, 2);
  ASSERT_EQ(before.tokens.size(), 1U);
  EXPECT_EQ(before.tokens[0].id, text.full_stop());
  EXPECT_EQ(before.tokens[0].text, ".");
  EXPECT_EQ(before.tokens[0].count, 3);
  EXPECT_EQ(before.tokens[0].sequence_share, 1);
  EXPECT_EQ(before.position_counts, counts({{0, 3}, {11, 3}}));
  expect_only_in_block_2(before, 2);
  EXPECT_THAT(prefix_of(found), ElementsAre(text.full_stop(), 1));
  const report::OutlierTokens& after = *found.conditions[2].outliers;
  EXPECT_EQ(after.position_counts, counts({{0, 3}}));
  EXPECT_THAT(after.tokens, IsEmpty());
}

TEST_F(KnownOutliers, APrefixWithoutTheFullStopLeavesItOne) {
  const OutlierModel model({.first = true, .special = true, .special_id = text.full_stop()});
  Preparation preparation(model.path(), text.write({11, 25}, -1), floats);
  Recipe recipe = quick(KnownText::sequences + 1, KnownText::length);
  recipe.prefix.tokens = "ids:1";
  AnalysisSettings settings;
  settings.generated_sequences = 0;
  const report::ModelAnalysis found = analyze_model(preparation, recipe, settings);
  const report::OutlierTokens& after = *found.conditions[2].outliers;
  EXPECT_EQ(after.position_counts, counts({{0, 3}, {12, 3}}));  // one further than without
  EXPECT_EQ(after.tokens.at(0).id, text.full_stop());
  EXPECT_FALSE(found.generated);
  EXPECT_THAT(found.generated_note, HasSubstr("--generate 0"));
}

TEST_F(KnownOutliers, NoneAtAll) {
  const OutlierModel model({});
  const report::ModelAnalysis found = analyze(model, text.write({11, 25}, -1));
  const report::OutlierTokens& before = *found.conditions[0].outliers;
  EXPECT_EQ(before.most_per_sequence, 0);
  EXPECT_THAT(before.tokens, IsEmpty());
  EXPECT_THAT(before.position_counts, IsEmpty());
  expect_only_in_block_2(before, 0);
  EXPECT_THAT(prefix_of(found), ElementsAre(1));
  EXPECT_EQ(found.generated->outliers, 0);
}

TEST_F(KnownOutliers, AnOutlierTokenThatOnlyStandsInTheSecondHalf) {
  const OutlierModel model({.special = true, .special_id = text.rare_word()});
  const report::ModelAnalysis found = analyze(model, text.write({}, 33));
  const report::OutlierTokens& before = *found.conditions[0].outliers;
  EXPECT_EQ(before.most_per_sequence, 1);
  ASSERT_EQ(before.tokens.size(), 1U);
  EXPECT_EQ(before.tokens[0].id, text.rare_word());
  EXPECT_EQ(before.tokens[0].count, 3);
  EXPECT_EQ(before.position_counts, counts({{33, 3}}));
  EXPECT_THAT(prefix_of(found), ElementsAre(text.rare_word(), 1));
  const report::TokenMaxima& maxima = found.conditions[0].blocks[2].maxima[Watched::down_input];
  EXPECT_EQ(maxima.top_token.position, 33);
  EXPECT_EQ(maxima.top_token.id, text.rare_word());
  EXPECT_EQ(found.conditions[2].outliers->position_counts, counts({{0, 3}}));
}

/// The sample model on sequences that go through a block in two batches.
class DirectComputation : public testing::Test {
 protected:
  const at::NoGradGuard no_grad;
  Recipe recipe = quick(12, 200);
  Preparation preparation{sample, prose, floats};
};

TEST_F(DirectComputation, StatisticsEqualThoseOfStoredActivations) {
  AnalysisSettings settings;
  settings.generated_sequences = 0;
  recipe.prefix.tokens = "ids:13,1";
  const report::ModelAnalysis analysis = analyze_model(preparation, recipe, settings);
  ASSERT_EQ(analysis.error_sequences, 3);
  ASSERT_EQ(analysis.conditions.size(), 3U);
  const io::HfCheckpoint& checkpoint = preparation.checkpoint();
  const ModelSpec& spec = checkpoint.spec();
  const CalibrationData data = behind_prefix(preparation.calibration(recipe), {13, 1});
  Recipe settled = recipe;
  settled.rotate.r1 = residual_rotation(spec, recipe.rotate.r1);
  const TransformedModel model(checkpoint, settled, floats);
  for (const report::ConditionAnalysis& condition : analysis.conditions) {
    const bool original = condition.key == "original", prefixed = condition.key == "prefixed";
    nn::ModelContext contexts(spec, original ? SiteTransforms{} : online_rotations(spec, settled.rotate), 600, floats);
    PrefixStream prefix(model, contexts, prefixed ? std::vector<std::int32_t>{13, 1} : std::vector<std::int32_t>{});
    const at::Tensor tokens = to_token_tensor(data.detection, at::kCPU);
    at::Tensor x = original ? nn::embed(checkpoint, tokens, floats) : model.embed(tokens);
    for (std::int64_t index = 0; index < spec.block_count; ++index) {
      SiteTransforms online;
      const nn::Block block = original ? nn::load_block(checkpoint, index, floats) : model.block(index, online);
      if (!original) contexts.set_transforms(index, online);
      const nn::BlockContext context = contexts.block(index, prefix.advance(block, index));
      std::map<Site, at::Tensor> stored;
      const at::Tensor input = x;
      x = nn::forward(block, context, input, [&](Site site, const at::Tensor& values) {
        stored[site] = values.clone();
        return values;
      });
      const report::BlockAnalysis& found = condition.blocks[static_cast<std::size_t>(index)];
      const std::map<Watched, at::Tensor> tensors{
          {Watched::qkv_input, stored[Site::qkv_input]},
          {Watched::o_input, stored[Site::o_input]},
          {Watched::gate_up_input, stored[Site::gate_up_input]},
          {Watched::down_input, stored[Site::down_input]},
          {Watched::block_output, stored[Site::block_output]},
          {Watched::query, context.transforms->query.apply(stored[Site::query])},
          {Watched::key, stored[Site::k_cache]},
          {Watched::value, stored[Site::v_cache]}};
      for (const auto& [tensor, values] : tensors) {
        const std::string where =
            fmt::format("{} {} {}", condition.key, index, report::watched_rows[static_cast<std::size_t>(tensor)].key);
        const at::Tensor sorted =
            std::get<0>(values.flatten(2).abs().amax(-1).to(at::kDouble).sort(1, true));  // [sequences, tokens]
        const std::int64_t length = sorted.size(1);
        const at::Tensor median = (sorted.select(1, (length - 1) / 2) + sorted.select(1, length / 2)) / 2;
        const report::TokenMaxima& maxima = found.maxima[tensor];
        const auto near = [&](double value, const at::Tensor& expected) {
          EXPECT_NEAR(value, expected.item<double>(), 2e-4 * std::fabs(expected.item<double>()) + 1e-12) << where;
        };
        for (std::int64_t k = 0; k < 3; ++k) {
          near(maxima.top[static_cast<std::size_t>(k)], sorted.select(1, k).max());
          near(maxima.least[static_cast<std::size_t>(k)], sorted.select(1, length - 1 - k).min());
        }
        near(maxima.median, median.mean());
        if (tensor == Watched::down_input) {  // another block's would not do
          const auto next = static_cast<std::size_t>((index + 1) % spec.block_count);
          EXPECT_GT(std::fabs(condition.blocks[next].maxima[tensor].median / maxima.median - 1), 2e-3) << where;
        }
        near(maxima.top_ratio, (sorted.select(1, 0) / median).max());
        near(maxima.least_ratio, (median / sorted.select(1, length - 1)).max());
      }
      // The error of a quantized block, its worst tokens, and attention, from their definitions.
      const at::Tensor few = input.narrow(0, 0, 3);
      QuantizerFormat format;
      format.bits = 4;
      const at::Tensor rounded = nn::forward(block, context, few, [&](Site site, const at::Tensor& values) {
        const bool quantized =
            site == Site::qkv_input || site == Site::o_input || site == Site::gate_up_input || site == Site::down_input;
        return quantized ? SiteFakeQuantizer(site, format, 1, 1)(values) : values;
      });
      const at::Tensor errors = (rounded - x.narrow(0, 0, 3)).to(at::kDouble).square();
      const double whole = errors.sum().item<double>();
      EXPECT_NEAR(found.error.mean_squared_error, whole / static_cast<double>(errors.numel()),
                  0.02 * whole / static_cast<double>(errors.numel()));
      const at::Tensor worst = std::get<0>(errors.sum(-1).sort(1, true));
      for (std::int64_t k = 0; k < 3; ++k) {
        EXPECT_NEAR(found.error.worst_share[static_cast<std::size_t>(k)],
                    worst.narrow(1, 0, k + 1).sum().item<double>() / whole, 0.02)
            << condition.key << " " << index;
      }
      if (!prefixed) continue;
      const nn::KeyValue& pinned = *context.prefix;
      const std::int64_t group = spec.head_count / spec.kv_head_count;
      for (std::int64_t head = 0; head < spec.head_count; ++head) {
        const at::Tensor q = tensors.at(Watched::query).select(2, head).narrow(0, 0, 3);
        const at::Tensor k = at::cat({pinned.key.select(2, head / group).expand({3, -1, -1}),
                                      stored[Site::k_cache].select(2, head / group).narrow(0, 0, 3)},
                                     1);
        const at::Tensor scores = at::bmm(q, k.transpose(1, 2)) * spec.score_scale();
        const std::int64_t length = q.size(1);
        const at::Tensor hidden = at::ones({length, length + 2}, at::kBool).triu(3);
        const at::Tensor on_prefix =
            at::softmax(scores.masked_fill(hidden, -INFINITY), -1).narrow(2, 0, 2).sum(-1).mean();
        EXPECT_NEAR(analysis.prefix_attention.at(static_cast<std::size_t>(index)).at(static_cast<std::size_t>(head)),
                    on_prefix.item<double>(), 1e-4);
      }
    }
  }
}

TEST_F(DirectComputation, StreamsOnDiskGiveTheSame) {
  AnalysisSettings settings;
  settings.generated_sequences = 0;
  recipe.calibration = {"prose", 3, 64};
  const Json in_memory = to_json(analyze_model(preparation, recipe, settings));
  settings.streams = testing::TempDir();
  Json on_disk = to_json(analyze_model(preparation, recipe, settings));
  on_disk["seconds"] = in_memory["seconds"];
  EXPECT_EQ(on_disk, in_memory);
}

TEST_F(DirectComputation, WithoutRotationAndPrefixThereIsOneCondition) {
  recipe.calibration = {"prose", 3, 64};
  recipe.rotate = {ResidualRotation::none, false, false, false};
  recipe.prefix.tokens = "none";
  const report::ModelAnalysis analysis = analyze_model(preparation, recipe, {});
  ASSERT_EQ(analysis.conditions.size(), 1U);
  EXPECT_THAT(analysis.prefix_attention, IsEmpty());
  EXPECT_FALSE(analysis.generated);
}

TEST_F(DirectComputation, OnlyTheBlocksThatAreDrawnKeepTheirMagnitudes) {
  recipe.calibration = {"prose", 3, 64};
  AnalysisSettings settings;
  settings.generated_sequences = 0;
  settings.drawn = parse_block_range("2-3", 6);
  const report::ModelAnalysis analysis = analyze_model(preparation, recipe, settings);
  for (const report::ConditionAnalysis& condition : analysis.conditions) {
    for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(condition.blocks[i].magnitudes.has_value(), i == 2 || i == 3);
  }
}

TEST(ModelAnalysis, NamesTheBlockWhereAModelOverflows) {
  const nn::BlockContext context;
  const PrefixSettings settings;
  BlockStatistics statistics(context, settings, "block 3, original");
  at::Tensor x = at::ones({1, 8, 4});
  statistics.tap(0)(Site::qkv_input, x);
  x[0][2][1] = INFINITY;
  EXPECT_EQ(message_of<InputError>([&] { statistics.tap(0)(Site::qkv_input, x); }),
            "block 3, original: the input of q_proj is not finite; the model overflows on this text");
}

TEST_F(DirectComputation, APrefixThatCannotBeReadIsRefusedBeforeTheWork) {
  recipe.prefix.tokens = "ids:9000";
  EXPECT_THAT(message_of<InputError>([&] { analyze_model(preparation, recipe, {}); }),
              HasSubstr("outside the vocabulary of 8192"));
}

TEST(ModelAnalysis, MagnitudesArePooledByTheirLargest) {
  const at::Tensor x = at::tensor({1.0F, -5.0F, 2.0F, 0.0F, -0.5F, 3.0F, 4.0F, 0.0F, -7.0F, 6.0F}).view({2, 5});
  const report::MagnitudeMap map = pooled_magnitudes(x, 3);
  EXPECT_EQ(map.columns, 3);
  EXPECT_EQ(map.channels_in_column, 2);
  EXPECT_THAT(map.magnitudes, ElementsAre(5, 2, 0.5F, 4, 7, 6));
  EXPECT_EQ(pooled_magnitudes(x, 128).columns, 5);
}

TEST(ModelAnalysis, ReadsRangesOfBlocks) {
  EXPECT_EQ(parse_block_range("3-5", 6).last, 5);
  EXPECT_EQ(parse_block_range("3", 6).first, 3);
  EXPECT_EQ(parse_block_range("3", 6).last, 3);
  for (const char* wrong : {"", "-", "a", "1-", "-1", "1-2-3", "1,2"}) {
    EXPECT_THAT(message_of<InputError>([&] { parse_block_range(wrong, 6); }), HasSubstr("is no range of blocks"));
  }
  EXPECT_THAT(message_of<InputError>([&] { parse_block_range("5-3", 6); }), HasSubstr("ends before it begins"));
  EXPECT_THAT(message_of<InputError>([&] { parse_block_range("0-6", 6); }), HasSubstr("the model has blocks 0 to 5"));
}

TEST(ModelAnalysis, RefusesTextThatIsTooShort) {
  const fs::path path = fs::path(testing::TempDir()) / "pq_short_text.txt";
  std::ofstream(path) << "one two three";
  Preparation preparation(sample, path.string(), floats);
  EXPECT_THAT(message_of<InputError>([&] { analyze_model(preparation, quick(2, 64), {}); }),
              HasSubstr("pq_short_text.txt: gives sequences of "));
  EXPECT_THAT(message_of<InputError>([&] { analyze_model(preparation, quick(2, 8), {}); }),
              HasSubstr("calibration.length=8: is too short"));
}

}  // namespace
}  // namespace pq::quant
