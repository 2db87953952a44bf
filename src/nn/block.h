#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "model/block_layout.h"
#include "nn/online_transform.h"

namespace pq::nn {

/// y = x * weight^T + bias.
struct Linear {
  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out], or undefined
  /// Where given, what makes y of x [.., in] instead; weight and bias may then be undefined.
  std::function<at::Tensor(const at::Tensor& x)> product{};
};

/// What is done to K behind its transforms, and to Q so that scores stay. Each may be undefined.
struct KeyFrame {
  at::Tensor basis;        // [kv_heads, head_dim, head_dim], in float32 at least: a head's rows are multiplied with it
  at::Tensor query_basis;  // the same for the heads of Q that read a KV head (model/key_basis.h)
  at::Tensor mean;         // [kv_heads, head_dim], then taken out of every token's K
};

/// One transformer block's parameters, all of one floating dtype on one device.
struct Block {
  PerNorm<at::Tensor> norms;
  PerLinear<Linear> linears;
  KeyFrame key_frame;

  Linear& operator[](LinearId id) { return linears[id]; }
  const Linear& operator[](LinearId id) const { return linears[id]; }
};

/// K and V of one block for a run of tokens.
struct KeyValue {
  at::Tensor key;    // [batch, tokens, kv_heads, head_dim]
  at::Tensor value;  // [batch, tokens, kv_heads, head_dim]
  std::int64_t length() const { return key.defined() ? key.size(1) : 0; }
};

/// cos and sin of the rotary embedding (Hugging Face's "rotate half" layout).
class Rope {
 public:
  Rope() = default;
  /// Tables for positions 0 .. positions-1, computed in float64, held in `options`' dtype and device. `width`: channels
  /// of a head that turn, the first ones.
  Rope(const RopeSpec& rope, std::int64_t width, std::int64_t positions, const at::TensorOptions& options);
  /// x [batch, tokens, heads, head_dim] whose first token stands at `first_position`; x itself where nothing turns.
  /// Throws InputError past the table.
  at::Tensor apply(const at::Tensor& x, std::int64_t first_position) const;
  /// Positions in the table.
  std::int64_t positions() const { return cos_.defined() ? cos_.size(0) : 0; }

 private:
  at::Tensor cos_;  // [positions, 1, width / 2]; nothing turns where that is 0
  at::Tensor sin_;  // the same
};

/// Called with every tensor that can be watched or quantized; returns the tensor to go on with (the same one to watch
/// only). Shapes as in Site's comments, with [batch, tokens] in front.
using Tap = std::function<at::Tensor(Site, const at::Tensor&)>;

/// All that a block's arithmetic needs beside its parameters and input. Members are borrowed; null means "without".
/// nn::ModelContext makes them.
struct BlockContext {
  const ModelSpec* spec = nullptr;
  const Rope* rope = nullptr;
  const BlockTransforms* transforms = nullptr;
  const KeyValue* prefix = nullptr;  // batch 1, every query sees it, positions 0 .. length-1
  std::int64_t window = 0;           // sliding window in tokens, own token included; 0: none; the prefix stays visible
};

struct Qkv {
  at::Tensor q;  // [batch, tokens, heads, head_dim]
  at::Tensor k;  // [batch, tokens, kv_heads, head_dim]
  at::Tensor v;  // [batch, tokens, kv_heads, head_dim]
};

// The block in stages, so that a search that changes one tensor recomputes only what follows it. `tap` may be empty.

/// Root mean square norm over the last dimension: x / sqrt(mean(x^2) + eps) * gamma.
at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gamma, double eps);
/// Logits of hidden states [.., hidden] behind the final norm, by lm_head [vocab, hidden].
at::Tensor project_logits(const ModelSpec& spec, const at::Tensor& lm_head, const at::Tensor& hidden);
at::Tensor apply(const Linear& linear, const at::Tensor& x);

/// x [batch, tokens, hidden] -> what q, k and v_proj read (tapped qkv_input).
at::Tensor qkv_input(const Block& block, const BlockContext& context, const at::Tensor& x, const Tap& tap);
/// Projections, RoPE from `first_position` on (prefix counted), transforms, K's basis and mean; taps query, key,
/// k_cache, v_cache.
Qkv project_qkv(const Block& block, const BlockContext& context, const at::Tensor& h, std::int64_t first_position,
                const Tap& tap);
/// softmax(scale * Q [K_prefix K]^T) [V_prefix V] -> [batch, tokens, heads * head_dim]. k and v may be longer
/// than q: q's tokens are their last ones. Causal among the non-prefix tokens, in tiles, never the whole score matrix.
/// Transformed: what o_proj reads, before its quantizer.
at::Tensor attend(const BlockContext& context, const Qkv& qkv);
/// What attend(context, ..) makes of attention's output.
at::Tensor o_input(const BlockContext& context, const at::Tensor& attended);
/// The same, not transformed, over K and V whose first `pinned` tokens every query sees, window or not: how a KV cache
/// that begins with the prefix is read without copying it.
at::Tensor attend(const Qkv& qkv, std::int64_t pinned, std::int64_t window, double scale);

/// One step of attend(): the queries first_query .. first_query+queries-1 against the keys (pinned ones not counted)
/// that any of them sees, first_key .. first_key+keys-1.
struct AttentionTile {
  std::int64_t first_query;
  std::int64_t queries;
  std::int64_t first_key;
  std::int64_t keys;
};
/// The steps for `queries` tokens that are the last of `keys` tokens; `group` query heads share a KV head.
std::vector<AttentionTile> attention_tiles(std::int64_t queries, std::int64_t keys, std::int64_t group,
                                           std::int64_t window);
/// The probabilities of attend(), one step and some (batch, KV head) pairs at a time, pairs first: `receive` gets pairs
/// `first_pair` and on, [pairs, queries * group, pinned + keys] in float32 at least. No more of them exist at once.
using ReceiveProbabilities =
    std::function<void(const AttentionTile& tile, std::int64_t first_pair, const at::Tensor& probabilities)>;
void attention_probabilities(const at::Tensor& q, const at::Tensor& k, std::int64_t pinned, std::int64_t window,
                             double scale, const ReceiveProbabilities& receive);
/// o_proj (its input tapped o_input), through the norm that the model has behind it, added to the residual stream x.
at::Tensor attention_output(const Block& block, const BlockContext& context, const at::Tensor& x,
                            const at::Tensor& attended, const Tap& tap);
/// The second norm (tapped gate_up_input).
at::Tensor gate_up_input(const Block& block, const BlockContext& context, const at::Tensor& x, const Tap& tap);
/// activation(gate) * up (tapped down_product), transformed: what down_proj reads, before its quantizer.
at::Tensor gated_product(const Block& block, const BlockContext& context, const at::Tensor& h, const Tap& tap);
/// The same where gate and up read two versions of their input.
at::Tensor gated_product(const Block& block, const BlockContext& context, const at::Tensor& gate_input,
                         const at::Tensor& up_input, const Tap& tap);
/// down_proj (its input tapped down_input), through the norm that the model has behind it, added to the residual stream
/// x; taps block_output.
at::Tensor mlp_output(const Block& block, const BlockContext& context, const at::Tensor& x, const at::Tensor& product,
                      const Tap& tap);

/// The whole block: x [batch, tokens, hidden] -> the same shape. When `present` is given it receives K and V of these
/// tokens as they go to the cache; `past` holds earlier tokens of the same sequences.
at::Tensor forward(const Block& block, const BlockContext& context, const at::Tensor& x, const Tap& tap = {},
                   KeyValue* present = nullptr, const KeyValue* past = nullptr);

}  // namespace pq::nn
