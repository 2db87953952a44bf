#include "report/damage_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/blocks_figures.h"
#include "report/number.h"

namespace pq::report {
namespace {

std::string finding(const DamageReport& report) {
  std::string text =
      fmt::format("{} ({}): perplexity {} where the original behind the same prefix has {}", report.recipe,
                  report.precision, short_number(report.quantized_perplexity, 4), short_number(report.perplexity, 4));
  text += fmt::format(", KL divergence {} nats", short_number(report.kl, 3));
  if (!report.kinds.empty()) text += fmt::format("; {} cost most of all kinds of numbers", report.kinds[0].name);
  if (!report.worst.empty())
    text += fmt::format("; block {}'s {} costs most of all single linear layers", report.worst[0].block,
                        report.worst[0].linear);
  return text + ".";
}

Section worst_section(const DamageReport& report) {
  Section section{"worst", "Which single layers hurt", {}};
  if (report.worst.empty()) return section;
  section.items.emplace_back(
      Text{"Ranked by the KL divergence of the logits (nats a token) with this linear layer alone quantized, its "
           "weights and what it reads."});
  section.items.emplace_back(worst_table(report.worst, "KL divergence (nats)"));
  return section;
}

Section blocks_section(const DamageReport& report) {
  Section section{"blocks", "Blocks and linear layers", {}};
  if (!report.block_kl.empty()) {
    const auto worst = std::max_element(report.block_kl.begin(), report.block_kl.end());
    LineChart chart{
        {"block-kl",
         fmt::format("Block {} costs most: {} nats", worst - report.block_kl.begin(), short_number(*worst, 3)),
         "KL divergence of the logits with only this block quantized."},
        block_axis(),
        {"KL divergence", "nats", Scale::log},
        {{"KL divergence", over_blocks(report.block_kl)}}};
    section.items.emplace_back(draw(chart));
  }
  add_linear_map(
      section, "linear-costs", report.linear_costs, report.linears, "error in the block's output",
      "Squared error of the block's output over its square, mean over tokens, with this layer quantized alone.");
  add_linear_map(
      section, "linear-errors", report.linear_errors, report.linears, "output error",
      "Squared error of each linear layer's own output over the square of what it should be, with this layer "
      "quantized alone.");
  return section;
}

}  // namespace

Page to_page(const DamageReport& report) {
  Page page{fmt::format("{}: which layers hurt", report.model), finding(report), {}};
  for (Section section : {kinds_section(report.kinds, report.proposal, report.bits_per_weight), worst_section(report),
                          blocks_section(report)}) {
    if (!section.items.empty()) page.sections.push_back(std::move(section));
  }
  page.sections.push_back(
      {"how",
       "How it was measured",
       {Text{fmt::format("{} sequences of {} tokens of {}, behind the checkpoint's prefix, against {}. In each "
                         "measurement one part is quantized, the rest of the model is whole; effects of several parts "
                         "add up only nearly.",
                         report.sequences, report.length, report.text, report.against)}}});
  return page;
}

}  // namespace pq::report
