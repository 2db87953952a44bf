#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "base/index.h"
#include "kernels/kernels.h"
#include "model/model_spec.h"
#include "model/quantized_block.h"
#include "model/recipe.h"
#include "numerics/quantize.h"
#include "runtime/aligned_buffer.h"

namespace pq::runtime {

/// How a block's KV cache keeps K and V.
struct KvPlan {
  kernels::KvLayout layout{};
  QuantizerFormat format;  ///< 16 bits: nothing is quantized
  bool packed = false;     ///< integer codes; else floats, fake-quantized where `format` says so
  std::int64_t kv_heads = 0;
  std::int32_t code_offset = 0;  ///< what makes a stored code of what quantize_row gives

  /// One scale for all heads of a token.
  bool per_token() const { return format.enabled() && format.granularity == Granularity::token; }
  std::uint64_t bytes_per_token() const;
};
/// `float_bits`: 0 as the recipe says, 16 or 32 for unquantized K and V. Formats whose groups the integer kernels do
/// not know are kept as fake-quantized float32.
KvPlan plan_kv(const ModelSpec& spec, const QuantizerFormat& format, int float_bits, bool float_attention = false);

/// The quantizer of one block's K or V.
struct KvQuantizer {
  SiteQuantizer parameters;
  std::vector<float> scale;        ///< static: [kv_heads]
  std::vector<std::int32_t> zero;  ///< static: [kv_heads], of stored codes
};
KvQuantizer make_kv_quantizer(const KvPlan& plan, const SiteQuantizer& parameters);

/// The body of a KV cache: K and V of up to `capacity` tokens in the layouts of kernels::KvHead. Memory is touched only
/// where tokens are stored. It does not know its length; whoever stores does.
///
/// One in binary16 notes when it is given a finite value that binary16 does not have (models trained in bfloat16 may
/// have such keys and values): then it must be widened to float32, and the tokens stored again.
class KvCache {
 public:
  /// `plans`: one a block. Throws SystemError when there is no such address space.
  KvCache(const std::vector<KvPlan>& plans, std::int64_t capacity);

  /// That of the block's plan, with floats of 32 bits once it was widened.
  const kernels::KvLayout& layout(std::int64_t block) const { return blocks_[index(block)].plan.layout; }
  /// Whether it was widened.
  bool wide() const { return wide_; }
  /// Whether a value was stored that binary16 cannot hold.
  bool beyond_half() const { return beyond_half_; }
  /// Keeps floats of 32 bits from now on, where it kept 16; those of the first `tokens` tokens are taken along.
  void widen(std::int64_t tokens);

  /// K and V of one head without its prefix; `key` and `value` are the block's quantizers.
  kernels::KvHead head(std::int64_t block, std::int64_t head, const KvQuantizer& key, const KvQuantizer& value) const;

  /// Stores K (rotated) or V [head_dim] of the token at body position `position`. With per_token() formats `token` is
  /// the scale of the whole token. Threads may store into different heads, or different groups of 32 tokens, at once.
  enum class Part { key, value };
  void store(Part part, std::int64_t block, std::int64_t head, std::int64_t position, const float* values,
             const KvQuantizer& quantizer, const AffineParams& token, const kernels::KernelTable& table);

  /// What store() left of K or V of a token: out [head_dim], as attention sees it.
  void load(Part part, std::int64_t block, std::int64_t head, std::int64_t position, const KvQuantizer& quantizer,
            float* out) const;

  /// Copies the first `length` tokens of a cache of the same plans and capacity, and becomes as wide.
  void copy_tokens(const KvCache& from, std::int64_t length);
  /// Calls visit on the memory of the first `length` tokens (rounded up to 32), piece by piece, always in the same
  /// order.
  void visit_tokens(std::int64_t length, const std::function<void(std::span<std::byte>)>& visit);
  /// Bytes that visit_tokens shows.
  std::uint64_t bytes_of(std::int64_t length) const;
  /// Whether all scales, zero points and floats of the first `length` tokens can be computed with.
  bool sound(std::int64_t length) const;

 private:
  struct Region {
    std::size_t offset;
    std::size_t bytes_per_32;  // tokens
  };
  enum Field { key_codes, value_codes, key_scales, key_zeros, value_scales, value_zeros, field_count };
  struct Block {
    KvPlan plan;
    std::size_t first = 0;  // byte of its first head
    std::array<Region, field_count> regions{};
    std::size_t head_bytes = 0;
  };

  std::byte* at(std::int64_t block, std::int64_t head, Field field);
  const std::byte* at(std::int64_t block, std::int64_t head, Field field) const;
  void store_floats(Part part, std::int64_t block, std::int64_t head, std::int64_t position, const float* values);
  void store_codes(Part part, std::int64_t block, std::int64_t head, std::int64_t position, const std::int8_t* codes);

  std::vector<Block> blocks_;
  std::int64_t capacity_;
  bool wide_ = false;
  bool beyond_half_ = false;  // set by any thread that stores
  AlignedBuffer memory_;
};

}  // namespace pq::runtime
