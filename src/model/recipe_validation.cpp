// Which recipes make sense (model/recipe.h).
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "model/block_formats.h"
#include "model/format_override.h"
#include "model/model_spec.h"
#include "model/recipe.h"

namespace pq {
namespace {

/// Where a format that contradicts itself stands; nothing for the whole model's.
std::string format_field(std::string_view field, std::string_view place) {
  return place.empty() ? fmt::format("recipe field {}", field) : fmt::format("recipe field {} ({})", field, place);
}

void validate_weight(const QuantizerFormat& weight, std::string_view place) {
  if (weight.enabled() && weight.granularity == Granularity::group && weight.group < 1) {
    throw InputError(format_field("weight.group", place), "grouped weights need a group size",
                     "for example --set weight.group=128");
  }
  if (!weight.two_level) return;
  const bool allowed = weight.bits == 4 && !weight.symmetric && weight.granularity == Granularity::group &&
                       (weight.group == 32 || weight.group == 64 || weight.group == 128);
  if (!allowed) {
    throw InputError(format_field("weight.two_level", place),
                     "two-level scales are for asymmetric 4-bit weights in groups of 32, 64 or 128",
                     "set weight.bits=4, weight.symmetric=false, weight.granularity=group and weight.group, or "
                     "weight.two_level=false");
  }
  if (weight.scale_type != ScaleType::float32) {
    throw InputError(format_field("weight.scale_type", place), "two-level scales are float32",
                     "set weight.scale_type=float32, or weight.two_level=false");
  }
}

void validate_activation(const QuantizerFormat& activation, std::string_view place) {
  if (activation.enabled() && activation.is_static() && activation.granularity != Granularity::tensor) {
    throw InputError(format_field("activation.granularity", place), "static activation scales are per tensor",
                     "set activation.granularity=tensor or activation.mode=dynamic");
  }
}

void validate_kv(const QuantizerFormat& kv, std::string_view place) {
  if (!kv.enabled()) return;
  if (kv.is_static() && kv.granularity != Granularity::head) {
    throw InputError(format_field("kv.granularity", place), "static KV scales are per head",
                     "set kv.granularity=head or kv.mode=dynamic");
  }
  if (!kv.is_static() && kv.granularity == Granularity::head) {
    throw InputError(format_field("kv.granularity", place), "dynamic KV scales are per token or group",
                     "set kv.granularity=group (of head_dim: one a head and token)");
  }
}

/// Linear layers that read the same tensor have to agree on its format.
void validate_readers(const LinearFormats& formats, std::int64_t block) {
  for (const LinearId linear : all_linears) {
    const std::span<const LinearId> readers = readers_of(input_site(linear));
    const LinearId first = readers.front();
    if (formats.activation[linear] == formats.activation[first]) continue;
    std::vector<std::string_view> names;
    for (const LinearId reader : readers) names.push_back(linear_name(reader));
    throw InputError(
        format_field("activation", fmt::format("block {}", block)),
        fmt::format("{} and {} read the same numbers, which cannot have two formats", linear_name(first),
                    linear_name(linear)),
        fmt::format("set the same linear.NAME.activation for {}, or blocks.N.activation", fmt::join(names, ", ")));
  }
}

void validate_formats(const Recipe& recipe) {
  for (const std::int64_t block : first_blocks_of_kinds(recipe)) {
    const LinearFormats formats = linear_formats(recipe, block);
    const bool mixed = !recipe.overrides.empty();
    for (const LinearId linear : all_linears) {
      const std::string place = mixed ? fmt::format("block {}, {}", block, linear_name(linear)) : std::string();
      validate_weight(formats.weight[linear], place);
      validate_activation(formats.activation[linear], place);
    }
    validate_kv(formats.kv, mixed ? fmt::format("block {}", block) : std::string());
    validate_readers(formats, block);
  }
}

}  // namespace

void validate_recipe(const Recipe& recipe) {
  validate_formats(recipe);
  if (recipe.finetune.e2e_epochs > 0 && !quantizes_weights(recipe)) {
    throw InputError("recipe field finetune.e2e_epochs", "tunes weight scales, and the weights are not quantized",
                     "set weight.bits, or finetune.e2e_epochs=0");
  }
}

void validate_recipe(const Recipe& recipe, const ModelSpec& spec) {
  for (const FormatOverride& override : recipe.overrides) {
    if (!override.blocks || override.blocks->last < spec.block_count) continue;
    throw InputError(fmt::format("recipe field {}", override_key(override)),
                     fmt::format("there is no block {}: the model has {}", override.blocks->last, spec.block_count),
                     fmt::format("they count from 0 to {}", spec.block_count - 1));
  }
  validate_recipe(recipe);
}

bool quantizes(const Recipe& recipe) {
  return quantizes_weights(recipe) || quantizes_activations(recipe) || quantizes_kv(recipe);
}

}  // namespace pq
