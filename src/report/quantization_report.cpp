#include "report/quantization_report.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>

#include "base/progress.h"
#include "report/blocks_figures.h"
#include "report/number.h"

namespace pq::report {
namespace {

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
  if (!report.kinds.empty()) {
    text += fmt::format("; {} cost most of all kinds of numbers: alone they move the logits by {} nats",
                        report.kinds.front().name, short_number(report.kinds.front().kl, 3));
  } else if (!report.worst.empty()) {
    const WorstLinear& worst = report.worst.front();
    text += fmt::format("; block {}'s {} hurts most: alone it leaves an error of {} in the block's output", worst.block,
                        worst.linear, short_number(worst.cost, 3));
  }
  return text + ".";
}

Section errors_section(const QuantizationReport& report) {
  Section section{"layers", "Which single layers hurt", {}};
  add_linear_map(
      section, "linear-costs", report.linear_costs, report.linears, "error in the block's output",
      "Squared error of the block's output over its square, mean over tokens, with this layer quantized alone. By this "
      "the worst are ranked: what reaches the residual stream goes on through the model.");
  if (!report.worst.empty()) section.items.emplace_back(worst_table(report.worst, "error in the block's output"));
  add_linear_map(
      section, "linear-errors", report.linear_errors, report.linears, "output error",
      "Squared error of each linear layer's own output over the square of what it should be, with this layer quantized "
      "alone.");
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
             : fmt::format("On the sequences held back. Of {} the loss grew, so that the start values stay.", kept)},
        block_axis(),
        loss,
        {before, after}};
    section.items.emplace_back(draw(chart));
  }
  Picker picker{"Tuned", {}};
  for (std::size_t i = 0; i < report.tuning.size(); ++i) {
    const QuantizationReport::Tuning& one = report.tuning[i];
    LineChart chart{{fmt::format("curve-{}", i),
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
    Table memory{"Private memory at the end of each step", {"step", "bytes"}, {}};
    for (const QuantizationReport::Step& step : report.steps) {
      if (step.memory_bytes > 0)
        memory.rows.push_back({step.name, whole(static_cast<std::int64_t>(step.memory_bytes))});
    }
    if (!memory.rows.empty()) section.items.emplace_back(std::move(memory));
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

Table worst_table(const std::vector<WorstLinear>& worst, const std::string& cost) {
  Table table{"The worst, and what would mend each",
              {"block", "linear", cost, "output error", "of weights", "of inputs", "setting", "bits a weight with it"},
              {}};
  for (const WorstLinear& one : worst) {
    table.rows.push_back({whole(static_cast<std::int64_t>(one.block)), one.linear, number(one.cost, 3),
                          number(one.error, 3), number(one.weights, 3), number(one.inputs, 3),
                          one.settings.empty() ? "-" : set_flags(one.settings), fixed(one.bits_per_weight, 3)});
  }
  return table;
}

Page to_page(const QuantizationReport& report) {
  Page page{fmt::format("{}: quantized to {}", report.model, report.precision), finding(report), {}};
  for (Section section :
       {kinds_section(report.kinds, report.proposal, report.bits_per_weight), errors_section(report)}) {
    if (!section.items.empty()) page.sections.push_back(std::move(section));
  }
  if (!report.tuning.empty()) page.sections.push_back(tuning_section(report));
  if (Section scales = scales_section(report); !scales.items.empty()) page.sections.push_back(std::move(scales));
  page.sections.push_back(cost_section(report));
  page.sections.push_back(recipe_section(report));
  return page;
}

}  // namespace pq::report
