#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <memory>
#include <utility>

#include "base/error.h"
#include "base/half.h"
#include "base/index.h"
#include "base/parallel_for.h"
#include "base/random.h"
#include "model/block_formats.h"
#include "numerics/packing.h"
#include "numerics/two_level.h"
#include "runtime/aligned_buffer.h"
#include "runtime/model_source.h"

namespace pq::runtime {
namespace {

/// The same bytes for the same seed and stream, whatever the number of threads.
void fill_random(AlignedBuffer& buffer, std::string_view stream, std::uint64_t keep, std::uint64_t set) {
  constexpr std::size_t piece = std::size_t{1} << 16;
  const auto fill = [&](std::size_t begin, std::size_t end, std::size_t /*thread*/) {
    for (std::size_t first = begin / piece * piece; first < end; first += piece) {
      Random random(first / piece, stream);
      const std::size_t last = std::min(first + piece, end);
      for (std::size_t at = first; at < last; at += sizeof(std::uint64_t)) {
        const std::uint64_t word = (random.next() & keep) | set;
        std::memcpy(buffer.data() + at, &word, std::min(sizeof word, last - at));
      }
    }
  };
  parallel_ranges(buffer.size(), piece, Split::fine, fill);
}

std::uint64_t four_times(std::uint64_t half) { return half * 0x0001000100010001ULL; }

/// A matrix of numbers of random sign with magnitudes in [m, 2m), m = 2^exponent.
io::TensorView random_halves(AlignedBuffer& buffer, std::string name, io::DType dtype, std::int64_t rows,
                             std::int64_t columns, int exponent) {
  buffer = AlignedBuffer::of<std::uint16_t>(index(rows * columns));
  if (dtype == io::DType::f16) {
    fill_random(buffer, name, four_times(0x83ff), four_times(static_cast<std::uint64_t>(exponent + 15) << 10));
  } else {
    fill_random(buffer, name, four_times(0x807f), four_times(static_cast<std::uint64_t>(exponent + 127) << 7));
  }
  return {std::move(name), dtype, {rows, columns}, {buffer.data(), buffer.size()}, "random model"};
}

/// The exponent of 1 / sqrt(columns), as binary16 has it.
int exponent_for(std::int64_t columns) {
  return std::max(-14, static_cast<int>(std::floor(-0.5 * std::log2(static_cast<double>(columns)))));
}

/// Matrices near the identity, so that they have inverses.
std::vector<float> random_key_basis(const ModelSpec& spec, std::int64_t block) {
  Random random(static_cast<std::uint64_t>(block), "key basis");
  const double spread = 0.5 / std::sqrt(static_cast<double>(spec.head_dim));
  std::vector<float> basis(index(spec.kv_size() * spec.head_dim));
  for (std::size_t i = 0; i < basis.size(); ++i) {
    const auto row = static_cast<std::int64_t>(i) / spec.head_dim % spec.head_dim;
    const double diagonal = static_cast<std::int64_t>(i) % spec.head_dim == row ? 1 : 0;
    basis[i] = static_cast<float>(diagonal + spread * (2 * random.uniform() - 1));
  }
  return basis;
}

SiteQuantizer random_site(const ModelSpec& spec, const QuantizerFormat& format) {
  SiteQuantizer site;
  if (!format.enabled() || !format.is_static()) return site;
  const std::int64_t count = format.granularity == Granularity::head ? spec.kv_head_count : 1;
  site.scale.assign(index(count), 8.0F / static_cast<float>(1 << format.bits));
  if (!format.symmetric) site.zero_point.assign(index(count), static_cast<std::int16_t>(1 << (format.bits - 1)));
  return site;
}

QuantizedLinear random_scales(const ModelSpec& spec, const QuantizerFormat& format, LinearId id,
                              std::string_view stream) {
  const LinearShape shape = linear_shape(spec, id);
  QuantizedLinear linear;
  Random random(0, stream);
  if (shape.bias) {
    linear.bias.resize(index(shape.out_features));
    for (float& bias : linear.bias) bias = static_cast<float>(random.uniform() - 0.5);
  }
  if (!format.enabled()) return linear;
  const std::int64_t groups = format.groups(shape.in_features);
  constexpr int middle_group_scale = 8;
  const double step = 3.0 / std::sqrt(static_cast<double>(shape.in_features)) / (1 << format.bits) /
                      (format.two_level ? middle_group_scale : 1);
  const std::int64_t in_groups = shape.out_features * groups;
  linear.scales.resize(index(format.two_level ? shape.out_features : in_groups));
  for (float& scale : linear.scales) scale = static_cast<float>(step * (0.5 + random.uniform()));
  if (format.symmetric) return linear;
  linear.zero_points.resize(index(in_groups));
  for (std::int16_t& zero : linear.zero_points) {
    zero = static_cast<std::int16_t>((1 << (format.bits - 1)) + static_cast<int>(random.below(3)) - 1);
  }
  if (!format.two_level) return linear;
  linear.group_scales.resize(index(in_groups));
  for (std::uint8_t& scale : linear.group_scales) {  // so that every one of these zero points fits
    scale = static_cast<std::uint8_t>(middle_group_scale - 4 + static_cast<int>(random.below(9)));
  }
  return linear;
}

BlockSource random_block(const ModelSpec& spec, const Recipe& recipe, std::int64_t block) {
  const BlockFormats formats = block_formats(recipe, block);
  auto buffers = std::make_shared<PerLinear<AlignedBuffer>>();
  BlockSource source;
  for (const NormRow& norm : all_norms(spec)) source.parameters.norms[norm.id].assign(index(norm.size), 1.0F);
  for (const LinearId id : all_linears) {
    const LinearShape shape = linear_shape(spec, id);
    const std::string name = tensor_names::linear(block, id);
    AlignedBuffer& buffer = (*buffers)[id];
    source.parameters.linears[id] = random_scales(spec, formats.weight[id], id, name);
    if (!formats.weight[id].enabled()) {
      source.weights[id] = random_halves(buffer, name, io::DType::bf16, shape.out_features, shape.in_features,
                                         exponent_for(shape.in_features));
      continue;
    }
    const std::int64_t row_bytes = packed_row_bytes(shape.in_features, formats.weight[id].bits);
    buffer = AlignedBuffer(index(shape.out_features * row_bytes));
    fill_random(buffer, name, ~std::uint64_t{0}, 0);
    source.weights[id] = {
        name, io::DType::u8, {shape.out_features, row_bytes}, {buffer.data(), buffer.size()}, "random model"};
  }
  for (const Site site : quantized_sites) {
    source.parameters.sites[site] = random_site(spec, formats.site[site]);
  }
  if (formats.balance_keys) source.parameters.key_basis = random_key_basis(spec, block);
  if (formats.center_keys) source.parameters.key_mean.assign(index(spec.kv_size()), 0.125F);
  source.parameters.transforms = online_rotations(spec, recipe.rotate);
  source.owner = buffers;
  return source;
}

Prefix random_prefix(const ModelSpec& spec, std::int64_t tokens) {
  Prefix prefix;
  if (tokens == 0) return prefix;
  prefix.length = tokens;
  prefix.token_ids.assign(index(tokens), 0);
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    Random random(static_cast<std::uint64_t>(block), "prefix");
    Prefix::BlockKv kv;
    for (std::vector<std::uint16_t>* halves : {&kv.key, &kv.value}) {
      halves->resize(index(spec.kv_size() * tokens));
      for (std::uint16_t& half : *halves) half = float_to_f16(static_cast<float>(random.normal()));
    }
    prefix.blocks.push_back(std::move(kv));
  }
  return prefix;
}

}  // namespace

ModelSource random_source(const ModelSpec& model_spec, const Recipe& model_recipe, std::int64_t prefix_tokens) {
  validate_recipe(model_recipe, model_spec);
  constexpr std::int64_t longest_prefix = 4096;
  if (prefix_tokens < 0 || prefix_tokens > longest_prefix) {
    throw InputError("prefix", fmt::format("{} tokens", prefix_tokens), fmt::format("use 0 to {}", longest_prefix));
  }
  check_shape(model_spec, "random model");
  ModelSource source;
  source.spec = model_spec;
  source.spec.tied_embeddings = false;
  source.recipe = model_recipe;
  Recipe& recipe = source.recipe;
  if (!quantizes(recipe)) recipe.rotate = {ResidualRotation::none, false, false, false};
  const ModelSpec& spec = source.spec;
  auto buffers = std::make_shared<std::array<AlignedBuffer, 2>>();
  source.embedding = random_halves((*buffers)[0], "embedding", io::DType::f16, spec.vocab_size, spec.hidden_size,
                                   exponent_for(spec.hidden_size));
  source.lm_head = random_halves((*buffers)[1], "lm_head", quantizes_weights(recipe) ? io::DType::f16 : io::DType::bf16,
                                 spec.vocab_size, spec.hidden_size, exponent_for(spec.hidden_size));
  source.files = buffers;
  source.final_norm.assign(index(spec.hidden_size), 1.0F);
  source.prefix = random_prefix(spec, prefix_tokens);
  source.block = [spec, recipe](std::int64_t block) { return random_block(spec, recipe, block); };
  return source;
}

}  // namespace pq::runtime
