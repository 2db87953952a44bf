#include "cli/checkpoint_summary.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/error.h"
#include "model/block_formats.h"
#include "model/block_layout.h"

namespace pq::cli {
namespace {

struct PartRow {
  Part part;
  std::string_view key;
  std::string_view title;
};

const PartRow& row_of(Part part) {
  static constexpr std::array<PartRow, all_parts.size()> rows{{
      {Part::weights, "weights", "linear layers' weights"},
      {Part::weight_scales, "weight_scales", "weight scales and zero points"},
      {Part::activation_scales, "activation_scales", "activation and KV scales"},
      {Part::embeddings, "embeddings", "embedding and lm_head"},
      {Part::norms_and_biases, "norms_and_biases", "norms and biases"},
      {Part::prefix, "prefix", "prefix"},
      {Part::other, "other", "other"},
  }};
  return rows.at(static_cast<std::size_t>(part));
}

Spread spread_of(std::string name, std::string kind, std::vector<float> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>((values.size() - 1) / 2);
  std::nth_element(values.begin(), middle, values.end());
  const auto [low, high] = std::minmax_element(values.begin(), values.end());
  return {std::move(name), std::move(kind), *low, *middle, *high};
}

void append(std::vector<float>& all, const std::vector<float>& some) {
  all.insert(all.end(), some.begin(), some.end());
}

}  // namespace

std::string_view part_key(Part part) { return row_of(part).key; }
std::string_view part_title(Part part) { return row_of(part).title; }

Part part_of(std::string_view name) {
  if (name.starts_with("prefix.")) return Part::prefix;
  if (name == tensor_names::embedding || name == tensor_names::lm_head) return Part::embeddings;
  if (name.ends_with(".bias") || name.ends_with("norm.weight")) return Part::norms_and_biases;
  const auto ends_in = [&](auto... ends) { return (name.ends_with(ends) || ...); };
  if (ends_in(".scale", ".zero_point", ".clip", ".mean", ".basis", ".input_scale", ".input_zero_point"))
    return Part::activation_scales;
  if (ends_in(".scales", ".group_scales", ".zero_points", ".weight_scale", ".weight_zero_point", ".qzeros"))
    return Part::weight_scales;
  if (ends_in("_proj.qweight", "_proj.weight", "_proj.weight_packed")) return Part::weights;
  return Part::other;
}

CheckpointSizes sizes_of(const std::vector<io::TensorSummary>& tensors) {
  CheckpointSizes sizes;
  for (const auto& tensor : tensors) sizes[part_of(tensor.name)] += tensor.bytes;
  return sizes;
}

double bits_per_weight(const CheckpointSizes& sizes, const ModelSpec& spec) {
  const auto bytes = static_cast<double>(sizes[Part::weights] + sizes[Part::weight_scales]);
  return 8.0 * bytes / (static_cast<double>(block_parameters(spec)) * static_cast<double>(spec.block_count));
}

std::vector<io::TensorSummary> tensors_of(const io::HfCheckpoint& checkpoint) {
  std::vector<io::TensorSummary> tensors;
  for (const std::string& name : checkpoint.names()) {
    try {
      const io::TensorView view = checkpoint.stored(name);
      tensors.push_back({name, view.dtype, view.shape, view.bytes.size(), view.file});
    } catch (const UnsupportedError&) {
      continue;  // a tensor that the architecture does not use
    }
  }
  return tensors;
}

std::string type_names(const std::vector<io::TensorSummary>& tensors) {
  std::set<std::string_view> names;
  for (const auto& tensor : tensors) names.insert(io::dtype_name(tensor.dtype));
  return fmt::format("{}", fmt::join(names, " and "));
}

CheckpointScales scales_of(const ModelSpec& spec, const Recipe& recipe,
                           const std::function<QuantizedBlock(std::int64_t)>& read_block) {
  PerSite<std::vector<float>> scales;
  PerSite<std::array<std::vector<float>, 2>> clips;
  PerLinear<std::vector<float>> weights;
  for (std::int64_t index = 0; index < spec.block_count; ++index) {
    const QuantizedBlock block = read_block(index);
    const BlockFormats formats = block_formats(recipe, index);
    for (const LinearId id : all_linears) append(weights[id], block.linears[id].scales);
    for (const Site site : quantized_sites) {
      const QuantizerFormat& format = formats.site[site];
      append(scales[site], block.sites[site].scale);
      if (!format.enabled() || format.is_static()) continue;
      clips[site][0].push_back(block.sites[site].clip[0]);
      if (!format.symmetric) clips[site][1].push_back(block.sites[site].clip[1]);
    }
  }
  CheckpointScales result;
  for (const Site site : quantized_sites) {
    const auto add = [&](std::string_view kind, std::vector<float> values) {
      if (!values.empty()) {
        result.sites.push_back(spread_of(std::string(site_name(site)), std::string(kind), std::move(values)));
      }
    };
    add("scale", std::move(scales[site]));
    add("clip of max", std::move(clips[site][0]));
    add("clip of min", std::move(clips[site][1]));
  }
  for (const LinearId id : all_linears) {
    if (weights[id].empty()) continue;
    result.weights.push_back(
        spread_of(std::string(tensor_names::linear_in_block(id)), "scale", std::move(weights[id])));
  }
  return result;
}

}  // namespace pq::cli
