#include "report/analysis_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "report/analysis_figures.h"
#include "report/escape.h"

namespace pq::report {
namespace {

/// "“.” “\n” “<s>”": the prefix for people.
std::string prefix_words(const ModelAnalysis& analysis) {
  std::string words;
  for (const TokenPlace& token : analysis.prefix) {
    words += (words.empty() ? "“" : " “") + visible_token(token.text) + "”";
  }
  return words;
}

LargestRatio marked_ratio(const ConditionAnalysis& condition, const WatchedRow& tensor) {
  return tensor.lower ? largest_least_ratio(condition, tensor.id) : largest_top_ratio(condition, tensor.id);
}

/// "from 2310 to 23 at the input of down_proj, ..": the marked ratios of the tensors whose `lower` this is.
std::string changes(const ConditionAnalysis& before, const ConditionAnalysis& after, bool lower) {
  std::vector<std::string> parts;
  for (const WatchedRow& tensor : watched_rows) {
    if (tensor.lower != lower) continue;
    parts.push_back(fmt::format("from {} to {} at {}{}", times(marked_ratio(before, tensor).ratio),
                                times(marked_ratio(after, tensor).ratio), lower ? "" : "the ", tensor.name));
  }
  std::string text;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    text += (i == 0 ? "" : i + 1 == parts.size() ? " and " : ", ") + parts[i];
  }
  return text;
}

bool any_outlier(const ModelAnalysis& analysis) {
  return !analysis.conditions.empty() && analysis.conditions.front().outliers &&
         !analysis.conditions.front().outliers->position_counts.empty();
}

Table token_table(const ModelAnalysis& analysis, const std::vector<TokenCount>& tokens, std::string caption) {
  constexpr std::size_t most = 20;
  Table table{std::move(caption), {"id", "token", "times an outlier", "share of sequences", "in the prefix"}, {}};
  for (std::size_t i = 0; i < std::min(most, tokens.size()); ++i) {
    const bool inside = std::any_of(analysis.prefix.begin(), analysis.prefix.end(),
                                    [&](const TokenPlace& place) { return place.id == tokens[i].id; });
    table.rows.push_back({whole(tokens[i].id), token(tokens[i].text), whole(tokens[i].count),
                          fixed(tokens[i].sequence_share, 3), inside ? "yes" : "no"});
  }
  return table;
}

/// What was measured, and where.
std::string setting(const ModelAnalysis& analysis) {
  return fmt::format(
      "{} sequences of {} tokens, calibration {}. A token's maximum is the largest magnitude among its channels; its "
      "ratio is that over the median of its sequence. Upper outliers have a ratio above {}, lower ones below 1/{} (the "
      "paper's section 4.1).",
      analysis.sequences, analysis.length, analysis.calibration, times(analysis.upper_threshold),
      times(analysis.lower_threshold));
}

Section outlier_section(const ModelAnalysis& analysis) {
  Section section{"outliers", "Outlier tokens", {}, {}};
  section.items.emplace_back(Text{choice_of_prefix(analysis)});
  if (!any_outlier(analysis)) {
    section.items.emplace_back(
        Text{fmt::format("No token is an outlier: none is larger than {} times the median of its sequence at the input "
                         "of down_proj.",
                         times(analysis.upper_threshold))});
  }
  section.items.emplace_back(outlier_count_figure(analysis));
  const ConditionAnalysis* prefixed = find_condition(analysis, "prefixed");
  const bool any = any_outlier(analysis) ||
                   (prefixed != nullptr && prefixed->outliers && !prefixed->outliers->position_counts.empty());
  if (any) section.items.emplace_back(outlier_position_figure(analysis));
  const OutlierTokens& before = analysis.conditions.front().outliers.value();
  if (!before.tokens.empty()) {
    section.items.emplace_back(outlier_token_figure(before));
    section.items.emplace_back(
        CopyableTable{token_table(analysis, before.tokens, "Outlier tokens beyond the first position, original")});
  }
  if (prefixed != nullptr && prefixed->outliers && !prefixed->outliers->tokens.empty()) {
    section.items.emplace_back(CopyableTable{token_table(
        analysis, prefixed->outliers->tokens, "Outlier tokens of the text that are left behind the prefix")});
  }
  return section;
}

/// Both ratios of one tensor, block by block.
Table block_ratio_table(const ModelAnalysis& analysis, const WatchedRow& tensor) {
  Table table{fmt::format("Ratios at {}{}, block by block", tensor.lower ? "" : "the ", tensor.name), {"block"}, {}};
  for (const ConditionAnalysis& condition : analysis.conditions) {
    for (const char* column : {"top-1/median", "median/least-1", "largest token"}) {
      table.header.push_back(fmt::format("{}: {}", condition.name, column));
    }
  }
  for (std::size_t i = 0; i < analysis.conditions.front().blocks.size(); ++i) {
    std::vector<Cell> row{whole(static_cast<std::int64_t>(i))};
    for (const ConditionAnalysis& condition : analysis.conditions) {
      const TokenMaxima& maxima = condition.blocks.at(i).maxima[tensor.id];
      row.push_back(number(maxima.top_ratio));
      row.push_back(number(maxima.least_ratio));
      row.emplace_back(fmt::format("{} at {}", visible_token(maxima.top_token.text), maxima.top_token.position));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

Section maxima_section(const ModelAnalysis& analysis) {
  Section section{"maxima", "Token-wise maxima", {}, {}};
  section.items.emplace_back(CopyableTable{ratio_table(analysis)});
  Picker picker{"Tensor", {}, static_cast<std::size_t>(Watched::down_input)};
  for (const WatchedRow& tensor : watched_rows) {
    Choice choice{std::string(tensor.name), {}};
    for (const ConditionAnalysis& condition : analysis.conditions) {
      choice.items.emplace_back(maxima_figure(analysis, condition, tensor));
    }
    choice.items.emplace_back(block_ratio_table(analysis, tensor));
    picker.choices.push_back(std::move(choice));
  }
  section.pickers.push_back(std::move(picker));
  return section;
}

Section error_section(const ModelAnalysis& analysis) {
  return {"errors", "Quantization error", {error_share_figure(analysis), error_figure(analysis)}, {}};
}

Section block_section(const ModelAnalysis& analysis) {
  Section section{"blocks", "Block by block", {}, {}};
  const std::int64_t worst = largest_top_ratio(analysis.conditions.front(), Watched::down_input).block;
  Picker picker{"Block", {}, 0};
  for (std::int64_t block = analysis.first_drawn; block <= analysis.last_drawn; ++block) {
    if (block == worst) picker.first = picker.choices.size();
    Choice choice{fmt::format("block {}", block), {}};
    for (const ConditionAnalysis& condition : analysis.conditions) {
      choice.items.emplace_back(magnitude_figure(analysis, condition, block));
    }
    choice.items.emplace_back(block_error_figure(analysis, block));
    picker.choices.push_back(std::move(choice));
  }
  section.pickers.push_back(std::move(picker));
  return section;
}

Section prefix_section(const ModelAnalysis& analysis) {
  Section section{"prefix", "Behind the prefix", {}, {}};
  if (analysis.prefix_attention.empty()) {
    section.items.emplace_back(Text{"There is no prefix (--prefix none)."});
    return section;
  }
  section.items.emplace_back(prefix_attention_figure(analysis));
  if (!analysis.generated) {
    section.items.emplace_back(Text{analysis.generated_note});
    return section;
  }
  const GeneratedOutliers& generated = *analysis.generated;
  section.items.emplace_back(Text{fmt::format(
      "Behind the prefix the model wrote {} sequences, {} tokens in all: {} of these {} an outlier in a block; the "
      "largest maximum is {} times the median of its sequence.",
      generated.sequences, generated.tokens, generated.outliers == 0 ? "none" : std::to_string(generated.outliers),
      generated.outliers > 1 ? "are" : "is", times(generated.top_ratio))});
  if (!generated.by_token.empty()) {
    section.items.emplace_back(
        CopyableTable{token_table(analysis, generated.by_token, "Outlier tokens in what the model wrote")});
  }
  return section;
}

}  // namespace

std::string finding_of(const ModelAnalysis& analysis) {
  const ConditionAnalysis& before = analysis.conditions.at(0);
  const ConditionAnalysis* after = find_condition(analysis, "prefixed");
  const LargestRatio down = largest_top_ratio(before, Watched::down_input);
  if (after == nullptr) {
    return fmt::format(
        "Without a prefix, the largest token is {} times the median at the input of down_proj (block {}).",
        times(down.ratio), down.block);
  }
  const std::string lead =
      any_outlier(analysis) ? "" : "No token is an outlier, and so the prefix is what starts a text: ";
  return fmt::format(
      "{}Behind the prefix {}{} the largest top-1 over median goes {}, and the largest median over "
      "least-1 {}.",
      lead, prefix_words(analysis), analysis.conditions.size() > 2 ? ", rotated," : ",", changes(before, *after, false),
      changes(before, *after, true));
}

std::string choice_of_prefix(const ModelAnalysis& analysis) {
  if (analysis.prefix.empty()) return "There is no prefix (--prefix none).";
  if (analysis.prefix_setting != "auto") {
    return fmt::format("The prefix {} was asked for (--prefix {}).", prefix_words(analysis), analysis.prefix_setting);
  }
  const OutlierTokens& outliers = analysis.conditions.at(0).outliers.value();
  std::string counts;
  for (const TokenPlace& place : analysis.prefix) {
    const auto found = std::find_if(outliers.tokens.begin(), outliers.tokens.end(),
                                    [&](const TokenCount& count) { return count.id == place.id; });
    if (&place == &analysis.prefix.back() || found == outliers.tokens.end()) continue;
    counts += fmt::format("“{}” was one {} times in {:.0f}% of the sequences, ", visible_token(place.text),
                          found->count, 100 * found->sequence_share);
  }
  if (counts.empty()) counts = "no token is one in enough sequences, ";
  return fmt::format(
      "The prefix is {}: the block with most outlier tokens has {} a sequence (rounded up, the first position "
      "counted); "
      "beyond that position {}and “{}”, which starts a text, stands last.",
      prefix_words(analysis), outliers.most_per_sequence, counts, visible_token(analysis.prefix.back().text));
}

Table ratio_table(const ModelAnalysis& analysis) {
  Table table{"The largest ratios over the blocks, and the block", {"tensor"}, {}};
  for (const ConditionAnalysis& condition : analysis.conditions) {
    for (const char* column : {"top-1/median", "block", "median/least-1", "block"}) {
      table.header.push_back(fmt::format("{}: {}", condition.name, column));
    }
  }
  for (const WatchedRow& tensor : watched_rows) {
    std::vector<Cell> row{std::string(tensor.name)};
    for (const ConditionAnalysis& condition : analysis.conditions) {
      for (const LargestRatio& found :
           {largest_top_ratio(condition, tensor.id), largest_least_ratio(condition, tensor.id)}) {
        row.push_back(number(found.ratio));
        row.push_back(whole(found.block));
      }
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

Page analysis_page(const ModelAnalysis& analysis) {
  Page page;
  page.title = fmt::format("Outliers of {}", analysis.model);
  page.finding = finding_of(analysis);
  page.sections.push_back({"setting", "What was measured", {Text{setting(analysis)}}, {}});
  page.sections.push_back(outlier_section(analysis));
  page.sections.push_back(maxima_section(analysis));
  page.sections.push_back(error_section(analysis));
  page.sections.push_back(prefix_section(analysis));
  page.sections.push_back(block_section(analysis));
  return page;
}

}  // namespace pq::report
