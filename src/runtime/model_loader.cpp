#include "runtime/model_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/half.h"
#include "base/index.h"
#include "model/block_formats.h"

namespace pq::runtime {
namespace {

/// Where a packed block keeps how the rows of a site are prepared for the layers that read it.
struct PreparedSite {
  Site site;
  LinearInput PackedBlock::*input;
};
constexpr std::array prepared_sites{PreparedSite{Site::qkv_input, &PackedBlock::qkv_input},
                                    PreparedSite{Site::o_input, &PackedBlock::o_input},
                                    PreparedSite{Site::gate_up_input, &PackedBlock::gate_up_input},
                                    PreparedSite{Site::down_input, &PackedBlock::down_input}};

/// Whether several rows at once that `linear` reads are rounded to bfloat16.
bool takes_bf16(const ModelParts& parts, const PackedLinear& linear) {
  return parts.options.bf16_products && parts.table.bf16_products && !linear.integer() &&
         linear.floats().format == kernels::FloatFormat::bf16;
}

/// Makes transforms ready for the kernels; blocks with equal ones share them.
class TransformShelf {
 public:
  OnlineTransform get(const SiteTransform& definition, std::int64_t size) {
    const auto found = std::find_if(made_.begin(), made_.end(), [&](const OnlineTransform& made) {
      return made.size() == size && made.definition() == definition;
    });
    return found != made_.end() ? *found : made_.emplace_back(definition, size);
  }

 private:
  std::vector<OnlineTransform> made_;
};

/// Packs a block whose sizes were checked against spec and recipe.
PackedBlock pack_block(const ModelParts& parts, std::int64_t block, BlockSource source, TransformShelf& transforms) {
  const ModelSpec& spec = parts.spec;
  const BlockFormats formats = block_formats(parts.recipe, block);
  PackedBlock packed;
  packed.norms = std::move(source.parameters.norms);
  packed.window = spec.window_of_block(block);
  const PerSite<SiteQuantizer>& sites = source.parameters.sites;
  packed.kv = plan_kv(spec, formats.site[Site::k_cache], parts.options.kv_bits, parts.options.float_attention);
  packed.key = make_kv_quantizer(packed.kv, sites[Site::k_cache]);
  packed.value = make_kv_quantizer(packed.kv, sites[Site::v_cache]);
  packed.key_mean = std::move(source.parameters.key_mean);
  const SiteTransforms& online = source.parameters.transforms;
  check_site_transforms(online, spec);
  packed.key_transform = transforms.get(online[Site::k_cache], spec.head_dim);
  packed.query_transform = transforms.get(inverse_transposed(online[Site::k_cache]), spec.head_dim);
  for (const auto& [site, input] : prepared_sites) {
    const SiteQuantizer& parameters = sites[site];
    const std::span<const LinearId> linears = readers_of(site);
    const QuantizerFormat& format = formats.site[site];
    const std::int64_t columns = linear_shape(spec, linears[0]).in_features;
    SegmentPlan plan = plan_segments(formats.weight[linears[0]], format, columns,
                                     parameters.zero_point.empty() ? 0 : parameters.zero_point[0]);
    std::vector<QuantizedSource> sources;
    for (const LinearId id : linears) {
      const io::TensorView& weight = source.weights[id];
      const QuantizedLinear& linear = source.parameters.linears[id];
      if (!formats.weight[id].enabled()) {
        packed[id] = PackedLinear::pack_floats(weight, linear.bias);
        continue;
      }
      sources.push_back({.where = fmt::format("{}: tensor '{}'", weight.file, weight.name),
                         .shape = linear_shape(spec, id),
                         .format = formats.weight[id],
                         .codes = weight.bytes,
                         .scales = linear.scales,
                         .zero_points = linear.zero_points,
                         .bias = linear.bias,
                         .group_scales = linear.group_scales});
      plan.integer = plan.integer && sums_fit(sources.back(), plan);
    }
    for (std::size_t i = 0; i < sources.size(); ++i) {
      packed[linears[i]] =
          plan.integer ? PackedLinear::pack_codes(sources[i], plan) : PackedLinear::dequantize(sources[i]);
    }
    packed.*input = make_linear_input(format, parameters, plan);
    (packed.*input).transform = transforms.get(online[site], columns);
    (packed.*input).bf16 = takes_bf16(parts, packed[linears[0]]);
  }
  return packed;
}

/// Packs lm_head as options.lm_head_bits says.
void set_lm_head(ModelParts& parts, const io::TensorView& weight) {
  if (parts.options.lm_head_bits == 8) {
    parts.lm_head = PackedLinear::pack_rows_to_8_bits(weight, parts.table);
    parts.head_input = make_linear_input(QuantizerFormat{}, {}, plan_8_bit_rows(parts.spec.hidden_size));
  } else {
    parts.lm_head = PackedLinear::pack_floats(weight, {});
    parts.head_input =
        make_linear_input(QuantizerFormat{}, {}, plan_segments({}, QuantizerFormat{}, parts.spec.hidden_size, 0));
  }
  parts.head_input.bf16 = takes_bf16(parts, parts.lm_head);
}

/// Prefix K or V [kv_heads, tokens, head_dim] as float32 with padded rows.
AlignedBuffer unpack_prefix(const ModelParts& parts, std::int64_t padded, std::span<const std::uint16_t> halves) {
  const std::int64_t dim = parts.spec.head_dim;
  const std::int64_t rows = parts.spec.kv_head_count * parts.prefix();
  AlignedBuffer floats = AlignedBuffer::of<float>(index(rows * padded));
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < dim; ++i) {
      floats.as<float>()[index(row * padded + i)] = f16_to_float(halves[index(row * dim + i)]);
    }
  }
  return floats;
}

WorkspaceShape workspace_shape(const ModelParts& parts) {
  const ModelSpec& spec = parts.spec;
  std::int64_t most_segments = parts.head_input.plan.segments;
  kernels::KvLayout most_groups = parts.blocks.front().kv.layout;  // what else a layout needs room for is the same
  for (const PackedBlock& block : parts.blocks) {
    for (const auto& [site, input] : prepared_sites) {
      most_segments = std::max(most_segments, (block.*input).plan.segments);
    }
    if (block.kv.layout.groups > most_groups.groups) most_groups = block.kv.layout;
  }
  return {.hidden_size = spec.hidden_size,
          .query_size = spec.query_size(),
          .kv_size = spec.kv_size(),
          .intermediate_size = spec.intermediate_size,
          .branches = spec.norm_placement != NormPlacement::pre || spec.residual_scale != 1,
          .most_segments = most_segments,
          .group_heads = spec.head_count / spec.kv_head_count,
          .kv = most_groups};
}

/// A table for each kind of rotary embedding, and which one each block reads.
void set_ropes(ModelParts& parts) {
  std::vector<const RopeSpec*> kinds;
  for (std::int64_t i = 0; i < parts.spec.block_count; ++i) {
    const RopeSpec& rope = parts.spec.block(i).rope;
    const auto known = std::find_if(kinds.begin(), kinds.end(), [&](const RopeSpec* kind) { return *kind == rope; });
    parts.blocks[index(i)].rope = static_cast<std::size_t>(known - kinds.begin());
    if (known != kinds.end()) continue;
    kinds.push_back(&rope);
    parts.ropes.emplace_back(rope_frequencies(rope, parts.spec.rotary_channels()), rope_amplitude(rope));
  }
}

}  // namespace

std::unique_ptr<ModelParts> build_model(ModelSource source, const ModelOptions& options,
                                        const kernels::KernelTable& table) {
  auto parts = std::make_unique<ModelParts>(source.spec, source.recipe, options, table);
  parts->path = source.path;
  parts->files = source.files;
  parts->embedding = source.embedding;
  parts->final_norm = std::move(source.final_norm);
  parts->prefix_length = source.prefix.length;
  parts->prefix_ids = source.prefix.token_ids;
  TransformShelf transforms;
  for (std::int64_t i = 0; i < parts->spec.block_count; ++i) {
    parts->blocks.push_back(pack_block(*parts, i, source.block(i), transforms));
    if (parts->prefix() == 0) continue;
    const Prefix::BlockKv& kv = source.prefix.blocks[index(i)];
    PackedBlock& block = parts->blocks.back();
    block.prefix_key = unpack_prefix(*parts, block.kv.layout.padded_dim, kv.key);
    block.prefix_value = unpack_prefix(*parts, block.kv.layout.padded_dim, kv.value);
  }
  set_ropes(*parts);
  set_lm_head(*parts, source.lm_head);
  parts->workspace_shape = workspace_shape(*parts);
  return parts;
}

}  // namespace pq::runtime
