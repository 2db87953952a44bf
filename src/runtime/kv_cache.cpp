#include "runtime/kv_cache.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <utility>

#include "base/half.h"
#include "base/index.h"
#include "base/log.h"
#include "runtime/dynamic_params.h"

namespace pq::runtime {
namespace {

using kernels::KvFormat;

constexpr std::int64_t tokens_together = 32;  // of a body block
constexpr std::int64_t largest_row = 8192;    // padded head_dim; checked when a model is loaded

std::int64_t blocks_of(std::int64_t tokens) { return (tokens + tokens_together - 1) / tokens_together; }
int code_bits(KvFormat format) { return format == KvFormat::int4 ? 4 : 8; }

/// Adds `offset` to each of four bytes.
std::uint32_t add_to_bytes(std::uint32_t word, std::uint32_t offset) {
  const std::uint32_t offsets = offset * 0x01010101U;
  return ((word & 0x7f7f7f7fU) + (offsets & 0x7f7f7f7fU)) ^ ((word ^ offsets) & 0x80808080U);
}

/// x [head_dim] <- its fake-quantized values, in slices of `group`.
void fake_quantize_head(std::span<float> x, const KvPlan& plan, const KvQuantizer& quantizer, std::int64_t head,
                        const AffineParams& token) {
  const QuantizerFormat& format = plan.format;
  const QuantRange range = quant_range(format.bits, format.symmetric);
  if (format.is_static()) {
    const SiteQuantizer& fixed = quantizer.parameters;
    fake_quantize(x, fixed.scale[index(head)], format.symmetric ? 0 : fixed.zero_point[index(head)], range);
    return;
  }
  if (plan.per_token()) {
    fake_quantize(x, token.scale, token.zero_point, range);
    return;
  }
  const std::size_t group = std::min(index(format.group), x.size());
  for (std::size_t first = 0; first < x.size(); first += group) {
    const std::span<float> slice = x.subspan(first, std::min(group, x.size() - first));
    const MinMax bounds = min_max(slice);
    const AffineParams params = dynamic_params(format, quantizer.parameters.clip, bounds.min, bounds.max);
    fake_quantize(slice, params.scale, params.zero_point, range);
  }
}

}  // namespace

std::uint64_t KvPlan::bytes_per_token() const {
  const auto dim = static_cast<std::uint64_t>(layout.padded_dim);
  std::uint64_t bytes = 2 * dim;
  if (layout.format == KvFormat::int4) bytes = dim;
  if (layout.format == KvFormat::f16) bytes = 4 * dim;
  if (layout.format == KvFormat::f32) bytes = 8 * dim;
  if (packed && layout.dynamic_scales) bytes += 16 * static_cast<std::uint64_t>(layout.groups);
  return bytes * static_cast<std::uint64_t>(kv_heads);
}

KvPlan plan_kv(const ModelSpec& spec, const QuantizerFormat& format, int float_bits, bool float_attention) {
  KvPlan plan;
  plan.kv_heads = spec.kv_head_count;
  plan.layout.head_dim = spec.head_dim;
  plan.layout.padded_dim = (spec.head_dim + kernels::column_block - 1) / kernels::column_block * kernels::column_block;
  plan.layout.group = plan.layout.padded_dim;
  plan.layout.groups = 1;
  if (!format.enabled() || float_bits != 0) {
    const bool wide = float_bits == 32 || (float_bits == 0 && float_attention);
    plan.layout.format = wide ? KvFormat::f32 : KvFormat::f16;
    return plan;
  }
  plan.format = format;
  const bool grouped = format.granularity == Granularity::group && format.group < spec.head_dim;
  if (float_attention || (grouped && format.group % kernels::column_block != 0)) {
    plan.layout.format = KvFormat::f32;
    return plan;
  }
  plan.packed = true;
  plan.code_offset = 1 << (format.bits - 1);
  plan.layout.format = format.bits <= 4 ? KvFormat::int4 : KvFormat::int8;
  plan.layout.dynamic_scales = !format.is_static();
  if (grouped) {
    plan.layout.group = format.group;
    plan.layout.groups = format.groups(spec.head_dim);
  }
  return plan;
}

KvQuantizer make_kv_quantizer(const KvPlan& plan, const SiteQuantizer& parameters) {
  KvQuantizer quantizer{parameters, parameters.scale, {}};
  if (!plan.format.enabled() || !plan.format.is_static()) return quantizer;
  for (std::size_t head = 0; head < parameters.scale.size(); ++head) {
    quantizer.zero.push_back(plan.format.symmetric ? plan.code_offset : parameters.zero_point[head]);
  }
  return quantizer;
}

KvCache::KvCache(const std::vector<KvPlan>& plans, std::int64_t capacity) : capacity_(capacity) {
  const std::size_t token_blocks = index(blocks_of(capacity));
  std::size_t total = 0;
  for (const KvPlan& plan : plans) {
    const kernels::KvLayout& layout = plan.layout;
    const std::size_t dim = index(layout.padded_dim);
    std::size_t key = dim * 32;
    std::size_t value = dim * 32;
    if (layout.format == KvFormat::int4) key = value = dim * 16;
    if (layout.format == KvFormat::f16 || layout.format == KvFormat::f32) {
      const std::size_t element = layout.format == KvFormat::f16 ? 2 : 4;
      key = index(layout.head_dim) * 32 * element;
      value = dim * 32 * element;
    }
    const std::size_t scales = plan.packed && layout.dynamic_scales ? index(layout.groups) * 32 * 4 : 0;
    Block block{plan, total, {}, 0};
    block.regions = {Region{0, key},    Region{0, value},  Region{0, scales},
                     Region{0, scales}, Region{0, scales}, Region{0, scales}};
    for (Region& region : block.regions) {
      region.offset = block.head_bytes;
      block.head_bytes += (region.bytes_per_32 * token_blocks + 63) / 64 * 64;
    }
    total += index(block.plan.kv_heads) * block.head_bytes;
    blocks_.push_back(block);
  }
  constexpr std::size_t small = std::size_t{64} << 20;
  memory_ = AlignedBuffer(total + 64, total <= small ? AlignedBuffer::Pages::huge : AlignedBuffer::Pages::sparse);
}

std::byte* KvCache::at(std::int64_t block, std::int64_t head, Field field) {
  const Block& of = blocks_[index(block)];
  return memory_.data() + of.first + index(head) * of.head_bytes + of.regions[field].offset;
}
const std::byte* KvCache::at(std::int64_t block, std::int64_t head, Field field) const {
  const Block& of = blocks_[index(block)];
  return memory_.data() + of.first + index(head) * of.head_bytes + of.regions[field].offset;
}

kernels::KvHead KvCache::head(std::int64_t block, std::int64_t head, const KvQuantizer& key,
                              const KvQuantizer& value) const {
  kernels::KvHead result{};
  result.key = reinterpret_cast<const std::uint8_t*>(at(block, head, key_codes));
  result.value = reinterpret_cast<const std::uint8_t*>(at(block, head, value_codes));
  const KvPlan& plan = blocks_[index(block)].plan;
  if (!plan.packed) return result;
  if (plan.layout.dynamic_scales) {
    result.key_scale = reinterpret_cast<const float*>(at(block, head, key_scales));
    result.key_zero = reinterpret_cast<const std::int32_t*>(at(block, head, key_zeros));
    result.value_scale = reinterpret_cast<const float*>(at(block, head, value_scales));
    result.value_zero = reinterpret_cast<const std::int32_t*>(at(block, head, value_zeros));
  } else {
    result.key_scale = &key.scale[index(head)];
    result.key_zero = &key.zero[index(head)];
    result.value_scale = &value.scale[index(head)];
    result.value_zero = &value.zero[index(head)];
  }
  return result;
}

void KvCache::store(Part part, std::int64_t block, std::int64_t head, std::int64_t position, const float* values,
                    const KvQuantizer& quantizer, const AffineParams& token, const kernels::KernelTable& table) {
  const KvPlan& plan = blocks_[index(block)].plan;
  const kernels::KvLayout& layout = plan.layout;
  const QuantizerFormat& format = plan.format;
  if (!plan.packed) {
    if (!format.enabled()) {
      store_floats(part, block, head, position, values);
      return;
    }
    std::array<float, largest_row> copy;
    std::copy_n(values, layout.head_dim, copy.begin());
    fake_quantize_head({copy.data(), index(layout.head_dim)}, plan, quantizer, head, token);
    store_floats(part, block, head, position, copy.data());
    return;
  }
  kernels::QuantizeRow spec{.kind = kernels::ScaleKind::fixed,
                            .planes = 1,
                            .bits = format.bits,
                            .symmetric = format.symmetric,
                            .scale = token.scale,
                            .zero = token.zero_point,
                            .gamma = quantizer.parameters.clip[0],
                            .beta = quantizer.parameters.clip[1],
                            .columns = layout.head_dim,
                            .padded = layout.padded_dim,
                            .segment = layout.group,
                            .segments = layout.groups};
  if (format.is_static()) {
    spec.scale = quantizer.scale[index(head)];
    spec.zero = format.symmetric ? 0 : quantizer.parameters.zero_point[index(head)];
  } else if (!plan.per_token()) {
    spec.kind = kernels::ScaleKind::segment;
  }
  alignas(64) std::array<std::int8_t, largest_row> codes;
  constexpr std::int64_t most_groups = largest_row / kernels::column_block;
  std::array<float, most_groups> scales;
  std::array<std::int32_t, most_groups> zeros;
  std::array<std::int32_t, most_groups> sums;
  table.quantize_row(values, spec, {codes.data(), 0, scales.data(), zeros.data(), sums.data()});
  if (layout.dynamic_scales) {
    auto* scale = reinterpret_cast<float*>(at(block, head, part == Part::key ? key_scales : value_scales));
    auto* zero = reinterpret_cast<std::int32_t*>(at(block, head, part == Part::key ? key_zeros : value_zeros));
    for (std::int64_t group = 0; group < layout.groups; ++group) {
      scale[position * layout.groups + group] = scales[index(group)];
      zero[position * layout.groups + group] = zeros[index(group)] + plan.code_offset;
    }
  }
  store_codes(part, block, head, position, codes.data());
}

void KvCache::store_codes(Part part, std::int64_t block, std::int64_t head, std::int64_t position,
                          const std::int8_t* codes) {
  const KvPlan& plan = blocks_[index(block)].plan;
  const kernels::KvLayout& layout = plan.layout;
  const int bits = code_bits(layout.format);
  const std::int64_t block_bytes = bits * 64;
  const auto offset = static_cast<std::uint32_t>(plan.code_offset);
  const auto quad_at = [&](std::int64_t column) {
    std::uint32_t word = 0;
    std::memcpy(&word, codes + column, sizeof word);
    return add_to_bytes(word, offset);
  };
  if (part == Part::key) {
    auto* panel = reinterpret_cast<unsigned char*>(at(block, head, key_codes)) +
                  position / 16 * kernels::panel_bytes(layout.padded_dim, bits) + position % 16 * 4;
    for (std::int64_t column = 0; column < layout.padded_dim; column += 32) {
      unsigned char* target = panel + column / 32 * block_bytes;
      for (int line = 0; line < bits; ++line) {
        const std::uint32_t word =
            bits == 8 ? quad_at(column + 4 * line) : quad_at(column + 8 * line) | (quad_at(column + 8 * line + 4) << 4);
        std::memcpy(target + 64 * line, &word, sizeof word);
      }
    }
    return;
  }
  const std::int64_t token = position % 32;
  const std::int64_t quad = token / 4;
  auto* lines = reinterpret_cast<unsigned char*>(at(block, head, value_codes)) +
                position / 32 * (layout.padded_dim / 16) * block_bytes + (bits == 8 ? quad : quad / 2) * 64 + token % 4;
  for (std::int64_t dim = 0; dim < layout.padded_dim; ++dim) {
    unsigned char& byte = lines[dim / 16 * block_bytes + dim % 16 * 4];
    const auto code = static_cast<unsigned>(codes[dim] + plan.code_offset);
    if (bits == 8) {
      byte = static_cast<unsigned char>(code);
    } else if (quad % 2 == 0) {
      byte = static_cast<unsigned char>((byte & 0xf0U) | code);
    } else {
      byte = static_cast<unsigned char>((byte & 0x0fU) | (code << 4));
    }
  }
}

void KvCache::load(Part part, std::int64_t block, std::int64_t head, std::int64_t position,
                   const KvQuantizer& quantizer, float* out) const {
  const KvPlan& plan = blocks_[index(block)].plan;
  const kernels::KvLayout& layout = plan.layout;
  const bool key = part == Part::key;
  const std::byte* memory = at(block, head, key ? key_codes : value_codes);
  if (!plan.packed) {
    for (std::int64_t i = 0; i < layout.head_dim; ++i) {
      const std::int64_t at =
          key ? position / 16 * layout.head_dim * 16 + i * 16 + position % 16 : position * layout.padded_dim + i;
      out[i] = layout.format == KvFormat::f16 ? f16_to_float(reinterpret_cast<const std::uint16_t*>(memory)[at])
                                              : reinterpret_cast<const float*>(memory)[at];
    }
    return;
  }
  const int bits = code_bits(layout.format);
  for (std::int64_t i = 0; i < layout.head_dim; ++i) {
    const std::int64_t column = key ? i % 32 : position % 32;
    const std::int64_t lane = key ? position % 16 : i % 16;
    const std::int64_t column_blocks =
        key ? position / 16 * (layout.padded_dim / 32) + i / 32 : position / 32 * (layout.padded_dim / 16) + i / 16;
    const std::int64_t line = bits == 8 ? column / 4 : column / 8;
    auto code = static_cast<std::int32_t>(
        reinterpret_cast<const std::uint8_t*>(memory)[column_blocks * bits * 64 + line * 64 + lane * 4 + column % 4]);
    if (bits == 4) code = (column / 4 % 2 == 0 ? code : code >> 4) & 15;
    float scale = 0;
    std::int32_t zero = 0;
    if (layout.dynamic_scales) {
      const std::int64_t at_group = position * layout.groups + i / layout.group;
      scale = reinterpret_cast<const float*>(at(block, head, key ? key_scales : value_scales))[at_group];
      zero = reinterpret_cast<const std::int32_t*>(at(block, head, key ? key_zeros : value_zeros))[at_group];
    } else {
      scale = quantizer.scale[index(head)];
      zero = quantizer.zero[index(head)];
    }
    out[i] = dequantize(code, scale, zero);
  }
}

void KvCache::store_floats(Part part, std::int64_t block, std::int64_t head, std::int64_t position,
                           const float* values) {
  const kernels::KvLayout& layout = this->layout(block);
  const auto store_as = [&](auto* target, auto convert) {
    const std::int64_t stride = part == Part::key ? 16 : 1;
    target += part == Part::key ? position / 16 * layout.head_dim * 16 + position % 16 : position * layout.padded_dim;
    for (std::int64_t i = 0; i < layout.head_dim; ++i) target[i * stride] = convert(values[i]);
  };
  std::byte* memory = at(block, head, part == Part::key ? key_codes : value_codes);
  if (layout.format == KvFormat::f16) {
    constexpr float rounds_to_infinity = 65520;
    bool beyond = false;
    for (std::int64_t i = 0; i < layout.head_dim; ++i) {
      beyond = beyond || (std::fabs(values[i]) >= rounds_to_infinity && std::isfinite(values[i]));
    }
    if (beyond) std::atomic_ref(beyond_half_).store(true, std::memory_order_relaxed);
    store_as(reinterpret_cast<std::uint16_t*>(memory), float_to_f16);
  } else {
    store_as(reinterpret_cast<float*>(memory), [](float x) { return x; });
  }
}

void KvCache::visit_tokens(std::int64_t length, const std::function<void(std::span<std::byte>)>& visit) {
  for (std::size_t block = 0; block < blocks_.size(); ++block) {
    for (std::int64_t head = 0; head < blocks_[block].plan.kv_heads; ++head) {
      for (int field = 0; field < field_count; ++field) {
        const std::size_t bytes = blocks_[block].regions[index(field)].bytes_per_32 * index(blocks_of(length));
        if (bytes > 0) visit({at(static_cast<std::int64_t>(block), head, static_cast<Field>(field)), bytes});
      }
    }
  }
}

void KvCache::widen(std::int64_t tokens) {
  std::vector<KvPlan> plans;
  bool narrow = false;
  for (const Block& block : blocks_) {
    plans.push_back(block.plan);
    if (plans.back().layout.format != KvFormat::f16) continue;
    plans.back().layout.format = KvFormat::f32;
    narrow = true;
  }
  if (!narrow) return;
  static std::atomic<bool> said{false};
  if (beyond_half_ && !said.exchange(true)) {
    log_warning(
        "keys or values of this model are beyond 65504, the range of binary16: its KV cache keeps them in float32, "
        "which takes twice the memory");
  }
  KvCache wide(plans, capacity_);
  wide.wide_ = true;
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const auto block = static_cast<std::int64_t>(i);
    const bool widened = layout(block).format == KvFormat::f16;
    for (std::int64_t head = 0; head < blocks_[i].plan.kv_heads; ++head) {
      for (int field = 0; field < field_count; ++field) {
        const std::size_t bytes = blocks_[i].regions[index(field)].bytes_per_32 * index(blocks_of(tokens));
        const std::byte* from = at(block, head, static_cast<Field>(field));
        std::byte* to = wide.at(block, head, static_cast<Field>(field));
        if (widened) {
          const auto* halves = reinterpret_cast<const std::uint16_t*>(from);
          std::transform(halves, halves + bytes / sizeof(std::uint16_t), reinterpret_cast<float*>(to), f16_to_float);
        } else if (bytes > 0) {
          std::memcpy(to, from, bytes);
        }
      }
    }
  }
  *this = std::move(wide);
}

void KvCache::copy_tokens(const KvCache& from, std::int64_t length) {
  if (from.wide() && !wide()) widen(0);
  const std::byte* source = from.memory_.data();
  visit_tokens(length, [&](std::span<std::byte> piece) {
    std::memcpy(piece.data(), source + (piece.data() - memory_.data()), piece.size());
  });
}

std::uint64_t KvCache::bytes_of(std::int64_t length) const {
  std::uint64_t bytes = 0;
  for (const Block& block : blocks_) {
    for (const Region& region : block.regions) {
      bytes += region.bytes_per_32 * index(blocks_of(length)) * index(block.plan.kv_heads);
    }
  }
  return bytes;
}

bool KvCache::sound(std::int64_t length) const {
  constexpr std::int32_t furthest_zero = 32768 + 256;
  bool sound = true;
  const auto floats = [&](const std::byte* memory, std::int64_t count, bool positive) {
    for (std::int64_t i = 0; i < count; ++i) {
      const float x = reinterpret_cast<const float*>(memory)[i];
      sound = sound && std::isfinite(x) && (x > 0 || !positive);
    }
  };
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const KvPlan& plan = blocks_[i].plan;
    const auto block = static_cast<std::int64_t>(i);
    for (std::int64_t head = 0; head < plan.kv_heads; ++head) {
      if (plan.packed && plan.layout.dynamic_scales) {
        const std::int64_t count = length * plan.layout.groups;
        floats(at(block, head, key_scales), count, true);
        floats(at(block, head, value_scales), count, true);
        for (const Field field : {key_zeros, value_zeros}) {
          const auto* zeros = reinterpret_cast<const std::int32_t*>(at(block, head, field));
          for (std::int64_t z = 0; z < count; ++z)
            sound = sound && zeros[z] >= -furthest_zero && zeros[z] <= furthest_zero;
        }
      }
      if (plan.packed) continue;
      for (const Field field : {key_codes, value_codes}) {
        const std::size_t bytes = blocks_[i].regions[field].bytes_per_32 * index(blocks_of(length));
        if (plan.layout.format == KvFormat::f32) {
          floats(at(block, head, field), static_cast<std::int64_t>(bytes / 4), false);
          continue;
        }
        const auto* halves = reinterpret_cast<const std::uint16_t*>(at(block, head, field));
        for (std::size_t h = 0; h < bytes / 2; ++h) sound = sound && (halves[h] & 0x7c00U) != 0x7c00U;
      }
    }
  }
  return sound;
}

}  // namespace pq::runtime
