#include "report/analysis.h"

#include <algorithm>

namespace pq::report {
namespace {

Json to_json(const TokenPlace& place) {
  return {{"sequence", place.sequence}, {"position", place.position}, {"id", place.id}, {"text", place.text}};
}

Json to_json(const std::vector<TokenCount>& counts) {
  Json json = Json::array();
  for (const TokenCount& token : counts) {
    json.push_back(
        {{"id", token.id}, {"text", token.text}, {"count", token.count}, {"sequence_share", token.sequence_share}});
  }
  return json;
}

Json to_json(const TokenMaxima& maxima) {
  return {{"top", maxima.top},
          {"median", maxima.median},
          {"least", maxima.least},
          {"max_ratio", maxima.top_ratio},
          {"max_inverse_ratio", maxima.least_ratio},
          {"upper_per_sequence", maxima.upper_per_sequence},
          {"lower_per_sequence", maxima.lower_per_sequence},
          {"top_token", to_json(maxima.top_token)},
          {"least_token", to_json(maxima.least_token)}};
}

Json to_json(const ErrorShare& error) {
  Json json{{"mean_squared_error", error.mean_squared_error},
            {"relative_error", error.relative_error},
            {"worst_share", error.worst_share},
            {"worst_tokens", Json::array()}};
  for (const TokenPlace& place : error.worst_tokens) json["worst_tokens"].push_back(to_json(place));
  return json;
}

Json to_json(const OutlierTokens& outliers) {
  return {{"per_sequence", outliers.per_sequence},
          {"outlier_count", outliers.most_per_sequence},
          {"tokens", to_json(outliers.tokens)},
          {"position_counts", outliers.position_counts}};
}

Json to_json(const ConditionAnalysis& condition) {
  Json json{{"condition", condition.key}, {"blocks", Json::array()}};
  for (const BlockAnalysis& block : condition.blocks) {
    Json row;
    for (const WatchedRow& tensor : watched_rows) row[std::string(tensor.key)] = to_json(block.maxima[tensor.id]);
    row["error"] = to_json(block.error);
    json["blocks"].push_back(std::move(row));
  }
  if (condition.outliers) json["outliers"] = to_json(*condition.outliers);
  return json;
}

Json to_json(const GeneratedOutliers& generated) {
  return {{"sequences", generated.sequences},
          {"generated_tokens", generated.tokens},
          {"outlier_tokens", generated.outliers},
          {"outlier_max_ratio", generated.top_ratio},
          {"outlier_ids", to_json(generated.by_token)}};
}

template <double TokenMaxima::*ratio>
LargestRatio largest(const ConditionAnalysis& condition, Watched tensor) {
  LargestRatio found;
  for (std::size_t i = 0; i < condition.blocks.size(); ++i) {
    const double value = condition.blocks[i].maxima[tensor].*ratio;
    if (value > found.ratio) found = {value, static_cast<std::int64_t>(i)};
  }
  return found;
}

}  // namespace

Json to_json(const ModelAnalysis& analysis) {
  Json ids = Json::array();
  std::string text;
  for (const TokenPlace& token : analysis.prefix) {
    ids.push_back(token.id);
    text += (text.empty() ? "" : " ") + token.text;
  }
  Json json{{"model", analysis.model},
            {"calibration", analysis.calibration},
            {"sequences", analysis.sequences},
            {"length", analysis.length},
            {"upper_threshold", analysis.upper_threshold},
            {"lower_threshold", analysis.lower_threshold},
            {"error_sequences", analysis.error_sequences},
            {"prefix_setting", analysis.prefix_setting},
            {"prefix_token_ids", ids},
            {"prefix_text", text}};
  if (!analysis.conditions.empty() && analysis.conditions.front().outliers) {
    const OutlierTokens& outliers = *analysis.conditions.front().outliers;
    json["outlier_count"] = outliers.most_per_sequence;
    json["tokens"] = to_json(outliers.tokens);
    json["position_counts"] = outliers.position_counts;
  }
  json["conditions"] = Json::array();
  for (const ConditionAnalysis& condition : analysis.conditions) json["conditions"].push_back(to_json(condition));
  json["prefix_attention"] = analysis.prefix_attention;
  json["generated"] = analysis.generated ? to_json(*analysis.generated) : Json();
  json["seconds"] = analysis.seconds;
  return json;
}

LargestRatio largest_top_ratio(const ConditionAnalysis& condition, Watched tensor) {
  return largest<&TokenMaxima::top_ratio>(condition, tensor);
}

LargestRatio largest_least_ratio(const ConditionAnalysis& condition, Watched tensor) {
  return largest<&TokenMaxima::least_ratio>(condition, tensor);
}

const ConditionAnalysis* find_condition(const ModelAnalysis& analysis, std::string_view key) {
  const auto found = std::find_if(analysis.conditions.begin(), analysis.conditions.end(),
                                  [&](const ConditionAnalysis& condition) { return condition.key == key; });
  return found == analysis.conditions.end() ? nullptr : &*found;
}

}  // namespace pq::report
