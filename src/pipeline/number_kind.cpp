#include "pipeline/number_kind.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "model/block_formats.h"
#include "model/format_override.h"

namespace pq::quant {

std::string NumberKind::name() const {
  if (part == NumberPart::caches) return "K and V";
  std::string text = part == NumberPart::weights ? "weights of " : "inputs of ";
  for (std::size_t i = 0; i < linears.size(); ++i)
    text += fmt::format("{}{}", i > 0 ? ", " : "", linear_name(linears[i]));
  return text;
}

QuantizedParts NumberKind::parts() const {
  QuantizedParts parts;
  parts.caches = part == NumberPart::caches;
  for (const LinearId linear : linears) (part == NumberPart::weights ? parts.weights : parts.inputs)[linear] = true;
  return parts;
}

std::vector<NumberKind> quantized_kinds(const Recipe& recipe, std::int64_t blocks) {
  std::vector<NumberKind> kinds;
  for (const LinearId linear : all_linears) {
    const std::span<const LinearId> sharing = readers_of(input_site(linear));
    if (linear != sharing.front()) continue;
    for (const NumberPart part : {NumberPart::weights, NumberPart::inputs})
      kinds.push_back({part, {sharing.begin(), sharing.end()}});
  }
  kinds.push_back({NumberPart::caches});
  std::erase_if(kinds,
                [&](const NumberKind& kind) { return widths_of(recipe, blocks, std::nullopt, kind).least >= 16; });
  return kinds;
}

Widths widths_of(const Recipe& recipe, std::int64_t blocks, std::optional<std::int64_t> block, const NumberKind& kind) {
  Widths widths;
  const auto add = [&](const QuantizerFormat& format) {
    widths.least = std::min(widths.least, format.bits);
    widths.most = std::max(widths.most, format.bits);
  };
  for (std::int64_t b = block.value_or(0); b <= block.value_or(blocks - 1); ++b) {
    const LinearFormats formats = linear_formats(recipe, b);
    if (kind.part == NumberPart::caches) add(formats.kv);
    for (const LinearId linear : kind.linears)
      add(kind.part == NumberPart::weights ? formats.weight[linear] : formats.activation[linear]);
  }
  return widths;
}

Json kind_damage_to_json(const std::vector<KindDamage>& kinds) {
  Json json = Json::array();
  for (const KindDamage& one : kinds)
    json.push_back({{"name", one.kind.name()}, {"kl_divergence", std::isfinite(one.kl) ? Json(one.kl) : Json()}});
  return json;
}

}  // namespace pq::quant
