#include "report/kind_costs.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

#include "report/number.h"

namespace pq::report {

std::string set_flags(const std::vector<std::string>& settings) {
  std::string text;
  for (const std::string& setting : settings) text += fmt::format("{}--set {}", text.empty() ? "" : " ", setting);
  return text;
}

std::string named_together(const MendingProposal& proposal) {
  return fmt::format("{}", fmt::join(proposal.names, "; "));
}

Section kinds_section(const std::vector<KindCost>& kinds, const MendingProposal& proposal, double bits_per_weight) {
  Section section{"kinds", "Which kinds hurt", {}};
  if (!proposal.names.empty()) {
    section.items.emplace_back(
        Text{fmt::format("To mend first: {}. The model then has {} bits a weight, now {}.", named_together(proposal),
                         short_number(proposal.bits_per_weight, 4), short_number(bits_per_weight, 4))});
    section.items.emplace_back(Code{proposal.command});
  }
  if (kinds.empty()) return section;
  BarChart chart{
      {"kind-kl",
       fmt::format("Of all kinds of numbers {} cost most: {} nats", kinds.front().name,
                   short_number(kinds.front().kl, 3)),
       "KL divergence of the logits from the whole model's with this kind of numbers alone quantized, in all "
       "blocks."},
      {"KL divergence", "nats"},
      "kind",
      {},
      {{"KL divergence", {}}}};
  Table table{
      "Kinds, and what would mend each", {"kind", "KL divergence (nats)", "setting", "bits a weight with it"}, {}};
  for (const KindCost& kind : kinds) {
    chart.categories.push_back(kind.name);
    chart.series[0].values.push_back(kind.kl);
    table.rows.push_back({kind.name, number(kind.kl, 3), kind.settings.empty() ? "-" : set_flags(kind.settings),
                          fixed(kind.bits_per_weight, 3)});
  }
  section.items.emplace_back(std::move(table));
  section.items.emplace_back(draw(chart));
  section.items.emplace_back(
      Text{"First is what has most KL divergence for the share by which the model grows with its setting, a hundredth "
           "at least: wider inputs take no bits, only time. Together the model grows by less than 0.3 bits a weight. "
           "Single layers are weighed too, each with its share of its "
           "kind's divergence; K and V, which take memory of another sort, are not."});
  return section;
}

}  // namespace pq::report
