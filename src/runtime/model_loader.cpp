#include "runtime/model_loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "base/half.h"
#include "base/index.h"
#include "model/block_formats.h"
#include "model/key_basis.h"

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

/// As which bf16 planes several rows at once reach `linear`: rounded where that is asked for, split where the matrix
/// unit multiplies planes exactly, else not at all.
int bf16_planes(const ModelParts& parts, const PackedLinear& linear) {
  if (linear.integer() || linear.floats().format == kernels::FloatFormat::f32) return 0;
  const bool whole_tiles = linear.floats().columns % kernels::column_block == 0;
  const bool rounded = parts.options.bf16_products && linear.floats().format == kernels::FloatFormat::bf16;
  if (rounded && parts.table.bf16_products) return 1;
  return parts.table.split_bf16 != nullptr && whole_tiles ? kernels::float_planes : 0;
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

/// What a site's layers go by together: `plan`, and of each whether it multiplies codes by it.
struct SitePlan {
  SegmentPlan plan;
  std::vector<bool> integer;
};

SitePlan plan_site(const std::vector<QuantizedSource>& sources, const QuantizerFormat& activation,
                   std::int32_t static_zero, bool fused) {
  std::vector<QuantizerFormat> weights;
  std::vector<SegmentPlan> plans;
  for (const QuantizedSource& source : sources) {
    weights.push_back(source.format);
    plans.push_back(plan_segments(source.format, activation, source.shape.in_features, static_zero));
  }
  SitePlan site{common_plan(weights, plans), {}};
  bool some = false;
  bool all = true;
  for (std::size_t i = 0; i < sources.size(); ++i) {
    site.integer.push_back(plans[i].integer && sums_fit(sources[i], site.plan));
    some = some || site.integer.back();
    all = all && site.integer.back();
  }
  // A product of two layers is one kernel call, of codes or of floats.
  site.plan.integer = fused ? all : some;
  if (!site.plan.integer) site.integer.assign(sources.size(), false);
  return site;
}

QuantizedSource quantized_source(const ModelSpec& spec, const BlockSource& source, const BlockFormats& formats,
                                 LinearId id) {
  const io::TensorView& weight = source.weights[id];
  const QuantizedLinear& linear = source.parameters.linears[id];
  return {.where = fmt::format("{}: tensor '{}'", weight.file, weight.name),
          .shape = linear_shape(spec, id),
          .format = formats.weight[id],
          .codes = weight.bytes,
          .scales = linear.scales,
          .zero_points = linear.zero_points,
          .bias = linear.bias,
          .group_scales = linear.group_scales};
}

/// Packs the layers that read a site; the result is how its rows are prepared for them.
LinearInput pack_site(const ModelParts& parts, const BlockSource& source, const BlockFormats& formats, Site site,
                      PerLinear<PackedLinear>& packed) {
  const std::span<const LinearId> linears = readers_of(site);
  const SiteQuantizer& parameters = source.parameters.sites[site];
  std::vector<QuantizedSource> sources;
  for (const LinearId id : linears) sources.push_back(quantized_source(parts.spec, source, formats, id));
  const std::int32_t static_zero = parameters.zero_point.empty() ? 0 : parameters.zero_point[0];
  const SitePlan planned = plan_site(sources, formats.site[site], static_zero, site == Site::gate_up_input);
  LinearInput input = make_linear_input(formats.site[site], parameters, planned.plan);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    PackedLinear& linear = packed[linears[i]];
    if (!sources[i].format.enabled()) {
      linear = PackedLinear::pack_floats(source.weights[linears[i]], sources[i].bias);
    } else if (planned.integer[i]) {
      linear = PackedLinear::pack_codes(sources[i], planned.plan);
      continue;
    } else {
      linear = PackedLinear::dequantize(sources[i]);
    }
    input.floats = planned.plan.integer;
    input.bf16_planes = std::max(input.bf16_planes, bf16_planes(parts, linear));
  }
  return input;
}

/// Packs a block whose sizes were checked against spec and recipe.
PackedBlock pack_block(const ModelParts& parts, std::int64_t block, BlockSource source, TransformShelf& transforms) {
  const ModelSpec& spec = parts.spec;
  const BlockFormats formats = block_formats(parts.recipe, block);
  PackedBlock packed;
  packed.window = spec.window_of_block(block);
  const PerSite<SiteQuantizer>& sites = source.parameters.sites;
  packed.kv = plan_kv(spec, formats.site[Site::k_cache], parts.options.kv_bits, parts.options.float_attention);
  packed.key = make_kv_quantizer(packed.kv, sites[Site::k_cache]);
  packed.value = make_kv_quantizer(packed.kv, sites[Site::v_cache]);
  const SiteTransforms& online = source.parameters.transforms;
  check_site_transforms(online, spec);
  packed.key_transform = transforms.get(online[Site::k_cache], spec.head_dim);
  packed.query_transform = transforms.get(inverse_transposed(online[Site::k_cache]), spec.head_dim);
  for (const auto& [site, input] : prepared_sites) {
    packed.*input = pack_site(parts, source, formats, site, packed.linears);
    (packed.*input).transform = transforms.get(online[site], (packed.*input).plan.columns);
  }
  packed.norms = std::move(source.parameters.norms);
  packed.query_basis = query_basis(spec, source.parameters.key_basis);
  packed.key_basis = std::move(source.parameters.key_basis);
  packed.key_mean = std::move(source.parameters.key_mean);
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
  parts.head_input.bf16_planes = bf16_planes(parts, parts.lm_head);
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
  int most_planes = parts.head_input.bf16_planes;
  kernels::KvLayout most_groups = parts.blocks.front().kv.layout;  // what else a layout needs room for is the same
  for (const PackedBlock& block : parts.blocks) {
    for (const auto& [site, input] : prepared_sites) {
      most_segments = std::max(most_segments, (block.*input).plan.segments);
      most_planes = std::max(most_planes, (block.*input).bf16_planes);
    }
    if (block.kv.layout.groups > most_groups.groups) most_groups = block.kv.layout;
  }
  return {.hidden_size = spec.hidden_size,
          .query_size = spec.query_size(),
          .kv_size = spec.kv_size(),
          .intermediate_size = spec.intermediate_size,
          .branches = spec.norm_placement != NormPlacement::pre || spec.residual_scale != 1,
          .most_segments = most_segments,
          .most_bf16_planes = most_planes,
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
