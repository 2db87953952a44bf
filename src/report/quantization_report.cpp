#include "report/quantization_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/progress.h"
#include "report/number.h"

namespace pq::report {
namespace {

std::vector<std::string> block_names(std::size_t count) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < count; ++i) names.push_back(std::to_string(i));
  return names;
}

HeatMap blocks_by(const std::vector<std::vector<double>>& values, std::vector<std::string> columns,
                  std::string column_label, std::string value_label) {
  HeatMap map;
  map.row_label = "block";
  map.column_label = std::move(column_label);
  map.rows = block_names(values.size());
  map.columns = std::move(columns);
  for (const std::vector<double>& row : values) map.values.insert(map.values.end(), row.begin(), row.end());
  map.value_label = std::move(value_label);
  map.scale = Scale::log;
  return map;
}

bool any_number(const std::vector<std::vector<double>>& values) {
  return std::any_of(values.begin(), values.end(), [](const auto& row) {
    return std::any_of(row.begin(), row.end(), [](double value) { return std::isfinite(value); });
  });
}

std::vector<Point> over_blocks(const std::vector<double>& values) {
  std::vector<Point> points;
  for (std::size_t i = 0; i < values.size(); ++i) points.push_back({static_cast<double>(i), values[i]});
  return points;
}

Axis block_axis() {
  Axis axis{"block", ""};
  axis.whole = true;
  return axis;
}

std::string finding(const QuantizationReport& report) {
  std::string text = fmt::format(
      "{} ({}), {}", report.recipe, report.precision,
      report.prefix_text.empty() ? "without a prefix" : fmt::format("behind the prefix {}", report.prefix_text));
  if (report.remaining) {
    text +=
        report.remaining->per_sequence > 0
            ? fmt::format(
                  "; with it, {} outlier tokens a sequence are left, in {}% of the sequences, up to {} times the "
                  "median",
                  short_number(report.remaining->per_sequence, 2),
                  short_number(100 * report.remaining->sequence_share, 2), short_number(report.remaining->max_ratio, 3))
            : fmt::format("; no outlier token is left (largest ratio to the median: {})",
                          short_number(report.remaining->max_ratio, 3));
  }
  if (const auto worst = worst_linears(report, 1); !worst.empty())
    text += fmt::format("; block {}'s {} has the largest error, {}", worst[0].block, worst[0].linear,
                        short_number(worst[0].error, 3));
  return text + ".";
}

Section errors_section(const QuantizationReport& report) {
  Section section{"layers", "Which layers hurt", {}};
  if (any_number(report.linear_errors)) {
    const std::vector<WorstLinear> worst = worst_linears(report);
    HeatMap map = blocks_by(report.linear_errors, report.linears, "linear", "relative output error");
    map.caption = {"linear-errors",
                   fmt::format("Block {}'s {} has the largest error: {}", worst[0].block, worst[0].linear,
                               short_number(worst[0].error, 3)),
                   "Squared error of each linear layer's output over the square of what it should be, with this layer "
                   "quantized alone."};
    section.items.emplace_back(draw(map));
    Table table{"The worst, and the setting that would keep each at 8 bits",
                {"block", "linear", "relative output error", "setting"},
                {}};
    std::string settings;
    for (const WorstLinear& one : worst) {
      table.rows.push_back(
          {whole(static_cast<std::int64_t>(one.block)), one.linear, number(one.error), "--set " + one.setting});
      settings += fmt::format("{}--set {}", settings.empty() ? "" : " ", one.setting);
    }
    section.items.emplace_back(std::move(table));
    section.items.emplace_back(Code{std::move(settings)});
  }
  if (!report.block_errors.empty()) {
    const auto largest = std::max_element(report.block_errors.begin(), report.block_errors.end());
    LineChart chart{{"block-errors",
                     fmt::format("Block {} has the largest error: {}", largest - report.block_errors.begin(),
                                 short_number(*largest, 3)),
                     "Squared error of each block's output over the square of what it should be."},
                    block_axis(),
                    {"relative output error", "", Scale::log},
                    {{"error", over_blocks(report.block_errors)}}};
    section.items.emplace_back(draw(chart));
  }
  return section;
}

/// All blocks' first and last losses, and a block's curve at a time.
Section tuning_section(const QuantizationReport& report) {
  Section section{"tuning", "Fine-tuning", {}};
  const Axis loss{report.tuning.front().loss, "", Scale::log};
  Series before{"before", {}};
  Series after{"after", {}};
  std::size_t kept = 0;
  double gains = 0;
  std::size_t blocks = 0;
  for (const QuantizationReport::Tuning& one : report.tuning) {
    kept += one.kept_start ? 1 : 0;
    if (!one.name.starts_with("block ")) continue;
    before.points.push_back({static_cast<double>(blocks), one.start});
    after.points.push_back({static_cast<double>(blocks), one.end});
    ++blocks;
    gains += one.start > 0 && one.end > 0 ? std::log(one.end / one.start) : 0;
  }
  if (blocks > 0) {
    LineChart chart{
        {"tuning-losses",
         fmt::format("Fine-tuning takes the blocks' losses to {}% of what they were, in the geometric mean",
                     short_number(100 * std::exp(gains / static_cast<double>(blocks)), 3)),
         kept == 0
             ? "On the sequences held back."
             : fmt::format("On the sequences held back. {} ended worse than they began and keep their start values.",
                           kept)},
        block_axis(),
        loss,
        {before, after}};
    section.items.emplace_back(draw(chart));
  }
  Picker picker{"Tuned", {}};
  for (std::size_t i = 0; i < report.tuning.size(); ++i) {
    const QuantizationReport::Tuning& one = report.tuning[i];
    LineChart chart{{fmt::format("tuning-{}", i),
                     fmt::format("{}: from {} to {}{}", one.name, short_number(one.start, 3), short_number(one.end, 3),
                                 one.kept_start ? "; it ended worse, so the start values stay" : ""),
                     ""},
                    {"epoch", ""},
                    {one.loss, "", Scale::log},
                    {{"training", {}}, {"held back", {{0, one.start}}}}};
    chart.x.whole = true;
    for (std::size_t e = 0; e < one.training.size(); ++e)
      chart.series[0].points.push_back({static_cast<double>(e + 1), one.training[e]});
    for (std::size_t e = 0; e < one.validation.size(); ++e)
      chart.series[1].points.push_back({static_cast<double>(e + 1), one.validation[e]});
    picker.choices.push_back({one.name, {draw(chart)}});
  }
  section.pickers.push_back(std::move(picker));
  return section;
}

Section scales_section(const QuantizationReport& report) {
  Section section{"scales", "Scales and clip factors", {}};
  const auto add = [&](const char* id, const std::vector<std::vector<double>>& values,
                       const std::vector<std::string>& columns, const char* column_label, const char* value_label,
                       const char* title, const char* description, Scale scale) {
    if (!any_number(values)) return;
    HeatMap map = blocks_by(values, columns, column_label, value_label);
    map.caption = {id, title, description};
    map.scale = scale;
    section.items.emplace_back(draw(map));
  };
  add("weight-scales", report.weight_scales, report.linears, "linear", "scale", "Scales of the weights",
      "The median scale of each linear layer.", Scale::log);
  add("site-scales", report.site_scales, report.sites, "site", "scale", "Static scales of activations, K and V",
      "Of several heads the largest.", Scale::log);
  add("site-clips", report.site_clips, report.sites, "site", "clip factor", "Clip factors of dynamic quantizers",
      "What the maximum of each slice is multiplied by.", Scale::linear);
  return section;
}

Section cost_section(const QuantizationReport& report) {
  Section section{"cost", "Time and memory", {}};
  section.items.emplace_back(
      Text{fmt::format("{} in all; {} of private memory at the peak; the checkpoint has {}.",
                       format_duration(report.seconds), format_bytes(static_cast<double>(report.memory_bytes)),
                       format_bytes(static_cast<double>(report.checkpoint_bytes)))});
  if (!report.steps.empty()) {
    BarChart chart{{"steps", "", "Seconds of each step."}, {"time", "s"}, "step", {}, {{"seconds", {}}}};
    for (const QuantizationReport::Step& step : report.steps) {
      chart.categories.push_back(step.name);
      chart.series[0].values.push_back(step.seconds);
    }
    const auto longest = std::max_element(report.steps.begin(), report.steps.end(),
                                          [](const auto& a, const auto& b) { return a.seconds < b.seconds; });
    chart.caption.title = fmt::format("The longest step: {}, {}", longest->name, format_duration(longest->seconds));
    section.items.emplace_back(draw(chart));
  }
  if (!report.block_seconds.empty()) {
    std::vector<double> sorted = report.block_seconds;
    std::sort(sorted.begin(), sorted.end());
    LineChart chart{{"block-seconds",
                     fmt::format("A block takes {} (median)", format_duration(sorted[(sorted.size() - 1) / 2])), ""},
                    block_axis(),
                    {"time", "s"},
                    {{"seconds", over_blocks(report.block_seconds)}}};
    chart.y.from = 0;
    section.items.emplace_back(draw(chart));
  }
  return section;
}

Section recipe_section(const QuantizationReport& report) {
  Section section{"recipe", "Recipe", {}};
  section.items.emplace_back(
      Text{fmt::format("{} ({}): {}.", report.recipe, report.precision, report.recipe_in_words)});
  section.items.emplace_back(Text{
      report.prefix_text.empty()
          ? "No prefix."
          : fmt::format("Prefix: {} (token ids {}).", report.prefix_text, fmt::join(report.prefix_token_ids, ", "))});
  section.items.emplace_back(Text{fmt::format(
      "Calibration: {}.", report.calibration == "self" ? "text that the model sampled itself" : report.calibration)});
  Table table{"Every setting", {"setting", "value"}, {}};
  for (const auto& [key, value] : report.settings) table.rows.push_back({key, value});
  if (!table.rows.empty()) section.items.emplace_back(std::move(table));
  return section;
}

}  // namespace

std::vector<WorstLinear> worst_linears(const QuantizationReport& report, std::size_t most) {
  std::vector<WorstLinear> all;
  for (std::size_t b = 0; b < report.linear_errors.size(); ++b) {
    for (std::size_t l = 0; l < report.linears.size(); ++l) {
      const double error = report.linear_errors[b][l];
      if (std::isfinite(error))
        all.push_back(
            {b, report.linears[l], error, fmt::format("blocks.{}.linear.{}.weight.bits=8", b, report.linears[l])});
    }
  }
  std::stable_sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.error > b.error; });
  all.resize(std::min(all.size(), most));
  return all;
}

Page to_page(const QuantizationReport& report) {
  Page page{fmt::format("{}: quantized to {}", report.model, report.precision), finding(report), {}};
  for (Section section : {errors_section(report), scales_section(report)}) {
    if (!section.items.empty()) page.sections.push_back(std::move(section));
  }
  if (!report.tuning.empty())
    page.sections.insert(page.sections.begin() + (page.sections.empty() ? 0 : 1), tuning_section(report));
  page.sections.push_back(cost_section(report));
  page.sections.push_back(recipe_section(report));
  return page;
}

}  // namespace pq::report
