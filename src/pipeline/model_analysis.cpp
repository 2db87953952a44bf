#include "pipeline/model_analysis.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/phase_timer.h"
#include "base/progress.h"
#include "nn/batches.h"
#include "nn/transformer.h"
#include "pipeline/block_statistics.h"
#include "pipeline/generated_outliers.h"
#include "pipeline/prefix.h"
#include "pipeline/prefix_stream.h"
#include "pipeline/streams.h"
#include "pipeline/transformed_model.h"
#include "tuning/stream_place.h"

namespace pq::quant {
namespace {

constexpr std::int64_t least_length = 8;

std::string name_of(std::string_view condition, std::int64_t block) {
  return fmt::format("block {}, {}", block, condition);
}

/// Memory of `streams` streams of the set.
std::uint64_t stream_bytes(const CalibrationSet& set, const ModelSpec& spec, std::int64_t streams) {
  return static_cast<std::uint64_t>(streams * set.samples() * set.length() * spec.hidden_size) * sizeof(float);
}

StreamPlace place_streams(std::uint64_t bytes, const AnalysisSettings& settings) {
  return StreamPlace::choose(bytes, settings.streams, std::filesystem::temp_directory_path());
}

/// The tokens of the analysis as the page shows them.
class TokenNames {
 public:
  TokenNames(const CalibrationSet& set, const Tokenizer& tokenizer, std::int64_t prefix)
      : set_(set), tokenizer_(tokenizer), prefix_(prefix) {}

  /// `place` holds sequence and index of a token of the set.
  void complete(report::TokenPlace& place) const {
    place.id = set_.sequences[static_cast<std::size_t>(place.sequence)][static_cast<std::size_t>(place.position)];
    place.text = tokenizer_.token_text(place.id);
    place.position += prefix_;
  }
  void complete(report::BlockAnalysis& block) const {
    for (const report::WatchedRow& row : report::watched_rows) {
      report::TokenMaxima& maxima = block.maxima[row.id];
      complete(maxima.top_token);
      complete(maxima.least_token);
    }
    for (report::TokenPlace& place : block.error.worst_tokens) complete(place);
  }
  std::vector<report::TokenPlace> first_sequence() const {
    std::vector<report::TokenPlace> places;
    for (std::int64_t i = 0; i < set_.length(); ++i) complete(places.emplace_back(report::TokenPlace{0, i}));
    return places;
  }

 private:
  const CalibrationSet& set_;
  const Tokenizer& tokenizer_;
  std::int64_t prefix_;
};

std::vector<report::TokenCount> token_counts(const OutlierReport& found, const Tokenizer& tokenizer) {
  std::vector<report::TokenCount> counts;
  for (const OutlierToken& token : found.tokens) {
    counts.push_back({token.id, tokenizer.token_text(token.id), token.count, token.sequence_share});
  }
  return counts;
}

report::OutlierTokens outlier_tokens(const OutlierReport& found, const Tokenizer& tokenizer) {
  report::OutlierTokens outliers;
  for (const BlockOutliers& block : found.blocks) outliers.per_sequence.push_back(block.down_product.mean_upper);
  outliers.most_per_sequence = found.outlier_count;
  outliers.tokens = token_counts(found, tokenizer);
  outliers.position_counts = found.position_counts;
  return outliers;
}

/// The calibration text on its way through the blocks in one condition.
class Condition {
 public:
  Condition(const CalibrationSet& set, const AnalysisSettings& settings, const PrefixSettings& rule, at::Tensor stream,
            report::ConditionAnalysis& result)
      : set_(set), settings_(settings), rule_(rule), stream_(std::move(stream)), result_(result) {}

  /// `prefix_maxima` as for OutlierDetection::add_prefix, with `detection`.
  void advance(const nn::Block& block, const nn::BlockContext& context, std::int64_t index, OutlierDetection* detection,
               const at::Tensor& prefix_maxima = {}) {
    BlockStatistics statistics(context, rule_, name_of(result_.name, index));
    if (detection != nullptr) detection->begin_block();
    statistics.detect_with(detection);
    statistics.set_prefix_maxima(prefix_maxima);
    if (!settings_.drawn || (settings_.drawn->first <= index && index <= settings_.drawn->last)) {
      statistics.keep_magnitudes(settings_.map_columns);
    }
    ErrorSum error;
    PrefixAttention attention;
    const std::int64_t samples = set_.samples();
    const std::int64_t step = nn::sequences_together(set_.length());
    const at::Device device = block[LinearId::q].weight.device();
    for (std::int64_t begin = 0; begin < samples; begin += step) {
      at::Tensor rows = stream_.narrow(0, begin, std::min(step, samples - begin));
      const at::Tensor x = rows.to(device);
      const at::Tensor y = nn::forward(block, context, x, statistics.tap(begin));
      const std::int64_t judged = std::min(x.size(0), settings_.error_sequences - begin);
      if (judged > 0) {
        error.add(block, context, x.narrow(0, 0, judged), y.narrow(0, 0, judged));
        if (context.prefix != nullptr) {
          attention.add(context, statistics.query().narrow(0, 0, judged), statistics.key().narrow(0, 0, judged));
        }
      }
      rows.copy_(y);
    }
    report::BlockAnalysis& found = result_.blocks.emplace_back();
    statistics.move_to(found);
    found.error = error.result();
    if (context.prefix != nullptr) prefix_attention_.push_back(attention.result());
  }
  std::vector<std::vector<double>> take_prefix_attention() { return std::move(prefix_attention_); }

 private:
  const CalibrationSet& set_;
  const AnalysisSettings& settings_;
  const PrefixSettings& rule_;
  at::Tensor stream_;  // [sequences, length, hidden]
  report::ConditionAnalysis& result_;
  std::vector<std::vector<double>> prefix_attention_;
};

at::Tensor original_stream(const io::HfCheckpoint& checkpoint, const CalibrationSet& set, const StreamPlace& place,
                           const at::TensorOptions& options) {
  at::Tensor stream = place.allocate({set.samples(), set.length(), checkpoint.spec().hidden_size});
  for (std::int64_t i = 0; i < set.samples(); ++i) {
    const CalibrationSet one{{set.sequences[static_cast<std::size_t>(i)]}};
    stream.narrow(0, i, 1).copy_(nn::embed(checkpoint, to_token_tensor(one, options.device()), options));
  }
  return stream;
}

/// The model as it is and, where the recipe has transforms, behind these.
OutlierReport walk_without_prefix(const Preparation& preparation, const Recipe& recipe, const CalibrationSet& set,
                                  const AnalysisSettings& settings, report::ModelAnalysis& analysis) {
  const io::HfCheckpoint& checkpoint = preparation.checkpoint();
  const ModelSpec& spec = checkpoint.spec();
  const at::TensorOptions& options = preparation.options();
  const bool rotated = recipe.rotate.any();
  const StreamPlace place = place_streams(stream_bytes(set, spec, rotated ? 2 : 1), settings);
  const TransformedModel model(checkpoint, recipe, options);
  const nn::ModelContext plain(spec, {}, set.length(), options);
  nn::ModelContext contexts(spec, online_rotations(spec, recipe.rotate), set.length(), options);

  analysis.conditions.push_back({"original", "original"});
  if (rotated) analysis.conditions.push_back({"rotated", "rotated"});
  Condition original(set, settings, recipe.prefix, original_stream(checkpoint, set, place, options),
                     analysis.conditions.front());
  std::optional<Condition> behind_rotation;
  if (rotated) {
    behind_rotation.emplace(set, settings, recipe.prefix, embedded_stream(model, set, place),
                            analysis.conditions.back());
  }
  OutlierDetection detection(set, recipe.prefix);
  Progress progress("without prefix", static_cast<std::size_t>(spec.block_count));
  for (std::int64_t index = 0; index < spec.block_count; ++index) {
    original.advance(nn::load_block(checkpoint, index, options), plain.block(index), index, &detection);
    if (behind_rotation) {
      SiteTransforms online;
      const nn::Block block = model.block(index, online);
      contexts.set_transforms(index, online);
      behind_rotation->advance(block, contexts.block(index), index, nullptr);
    }
    progress.advance();
  }
  OutlierReport found = detection.report();
  const TokenNames names(set, preparation.tokenizer(), 0);
  for (report::ConditionAnalysis& condition : analysis.conditions) {
    for (report::BlockAnalysis& block : condition.blocks) names.complete(block);
    condition.first_sequence = names.first_sequence();
  }
  analysis.conditions.front().outliers = outlier_tokens(found, preparation.tokenizer());
  return found;
}

/// The transformed model behind the prefix.
void walk_behind_prefix(const Preparation& preparation, const Recipe& recipe, const CalibrationSet& set,
                        const std::vector<std::int32_t>& ids, const AnalysisSettings& settings,
                        report::ModelAnalysis& analysis) {
  const io::HfCheckpoint& checkpoint = preparation.checkpoint();
  const ModelSpec& spec = checkpoint.spec();
  const at::TensorOptions& options = preparation.options();
  const auto pinned = static_cast<std::int64_t>(ids.size());
  const TransformedModel model(checkpoint, recipe, options);
  nn::ModelContext contexts(spec, online_rotations(spec, recipe.rotate),
                            pinned + std::max(set.length(), settings.generated_length), options);
  PrefixStream prefix(model, contexts, ids);
  GeneratedStream generated(
      model,
      generated_text(preparation, recipe, ids, {settings.generated_sequences, settings.generated_length},
                     analysis.generated_note),
      recipe.prefix);
  const bool rotated = recipe.rotate.any();
  const std::string name = rotated ? "rotated, behind the prefix" : "behind the prefix";
  report::ConditionAnalysis& result = analysis.conditions.emplace_back(report::ConditionAnalysis{"prefixed", name});
  const StreamPlace place = place_streams(stream_bytes(set, spec, 1), settings);
  Condition condition(set, settings, recipe.prefix, embedded_stream(model, set, place), result);
  OutlierDetection detection(set, recipe.prefix, pinned);
  Progress progress("behind the prefix", static_cast<std::size_t>(spec.block_count));
  for (std::int64_t index = 0; index < spec.block_count; ++index) {
    SiteTransforms online;
    const nn::Block block = model.block(index, online);
    contexts.set_transforms(index, online);
    at::Tensor prefix_maxima;
    const nn::KeyValue* key_values = prefix.advance(block, index, [&](Site site, const at::Tensor& x) {
      if (site == Site::down_product) prefix_maxima = token_maxima(x);
      return x;
    });
    const nn::BlockContext context = contexts.block(index, key_values);
    condition.advance(block, context, index, &detection, prefix_maxima);
    generated.advance(block, context);
    progress.advance();
  }
  const TokenNames names(set, preparation.tokenizer(), pinned);
  for (report::BlockAnalysis& block : result.blocks) names.complete(block);
  result.first_sequence = names.first_sequence();
  result.outliers = outlier_tokens(detection.report(), preparation.tokenizer());
  analysis.prefix_attention = condition.take_prefix_attention();
  analysis.generated = generated.result(preparation.tokenizer());
}

}  // namespace

BlockRange parse_block_range(std::string_view text, std::int64_t block_count) {
  const std::string where = fmt::format("--blocks {}", text);
  const auto number = [&](std::string_view digits) {
    std::int64_t value = 0;
    const auto [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (code != std::errc{} || end != digits.data() + digits.size() || value < 0) {
      throw InputError(where, "is no range of blocks", "for example --blocks 0-3, or --blocks 11");
    }
    return value;
  };
  const auto dash = text.find('-');
  BlockRange range;
  range.first = number(text.substr(0, dash));
  range.last = dash == std::string_view::npos ? range.first : number(text.substr(dash + 1));
  if (range.first > range.last) throw InputError(where, "ends before it begins", "for example --blocks 0-3");
  if (range.last >= block_count) {
    throw InputError(where, fmt::format("the model has blocks 0 to {}", block_count - 1));
  }
  return range;
}

void check_analysis(const Recipe& recipe, const ModelSpec& spec) {
  const std::int64_t length = std::min(recipe.calibration.length, spec.max_positions);
  if (length <= least_length) {
    throw InputError(fmt::format("calibration.length={}", recipe.calibration.length),
                     "is too short to tell outliers from other tokens",
                     fmt::format("sequences have more than {} tokens", least_length));
  }
}

report::ModelAnalysis analyze_model(Preparation& preparation, const Recipe& asked, const AnalysisSettings& wanted) {
  const at::NoGradGuard no_grad;
  const PhaseTimer timer("analyze");
  const ModelSpec& spec = preparation.checkpoint().spec();
  check_analysis(asked, spec);
  Recipe recipe = asked;
  recipe.rotate.r1 = residual_rotation(spec, recipe.rotate.r1);
  const auto prefix_for = [&](const PrefixSettings& prefix, const OutlierReport& found) {
    return choose_prefix(prefix, &found, preparation.tokenizer(), spec, recipe.seed);
  };
  PrefixSettings whole = recipe.prefix;
  whole.count = -1;
  prefix_for(whole, {});  // refuses now what cannot be read
  const CalibrationData& data = preparation.calibration(recipe);
  const CalibrationSet& set = data.detection;
  if (set.length() <= least_length) {
    throw InputError(
        preparation.calibration_name(),
        fmt::format("gives sequences of {} tokens, too short to tell outliers from other tokens", set.length()),
        "give a longer text, or --calibration self");
  }
  report::ModelAnalysis analysis;
  analysis.conditions.reserve(3);  // they are referred to while others are added
  analysis.calibration = preparation.calibration_name();
  analysis.sequences = set.samples();
  analysis.length = set.length();
  analysis.upper_threshold = recipe.prefix.upper_threshold;
  analysis.lower_threshold = recipe.prefix.lower_threshold;
  AnalysisSettings settings = wanted;
  settings.error_sequences = std::clamp<std::int64_t>(set.samples() / 4, 1, wanted.error_sequences);
  analysis.error_sequences = settings.error_sequences;
  analysis.prefix_setting = recipe.prefix.tokens;
  const BlockRange drawn = settings.drawn.value_or(BlockRange{0, spec.block_count - 1});
  analysis.first_drawn = drawn.first;
  analysis.last_drawn = drawn.last;

  const OutlierReport found = walk_without_prefix(preparation, recipe, set, settings, analysis);
  const std::vector<std::int32_t> ids = prefix_for(recipe.prefix, found);
  for (std::size_t i = 0; i < ids.size(); ++i) {
    analysis.prefix.push_back({0, static_cast<std::int64_t>(i), ids[i], preparation.tokenizer().token_text(ids[i])});
  }
  if (ids.empty()) {
    analysis.generated_note = "There is no prefix to generate text behind.";
  } else {
    walk_behind_prefix(preparation, recipe, behind_prefix(data, ids).detection, ids, settings, analysis);
  }
  analysis.seconds = timer.seconds();
  return analysis;
}

}  // namespace pq::quant
