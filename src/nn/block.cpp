#include "nn/block.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"

namespace pq::nn {
namespace {

// Without gradients, fresh temporaries are updated in place: the arithmetic is the same, the memory traffic half.
bool may_overwrite() { return !at::GradMode::is_enabled(); }

at::Tensor tapped(const Tap& tap, Site site, at::Tensor x) { return tap ? tap(site, x) : x; }

at::Tensor transformed(const BlockContext& context, Site site, at::Tensor x) {
  return context.transforms != nullptr ? context.transforms->sites[site].apply(x) : x;
}

/// x through one of the block's norms; x itself where the model has no such norm.
at::Tensor normed(const Block& block, const BlockContext& context, NormId norm, const at::Tensor& x) {
  const at::Tensor& gamma = block.norms[norm];
  return gamma.defined() ? rms_norm(x, gamma, context.spec->rms_norm_eps) : x;
}

/// The residual stream x and what attention or the MLP gave, behind the norm that the model has there.
at::Tensor add_residual(const Block& block, const BlockContext& context, NormId norm, const at::Tensor& x,
                        at::Tensor fresh) {
  fresh = normed(block, context, norm, fresh);
  if (context.spec->residual_scale != 1) fresh = fresh * context.spec->residual_scale;
  return may_overwrite() ? fresh.add_(x) : x + fresh;
}

at::Tensor activated(Activation activation, const at::Tensor& gate) {
  return activation == Activation::silu ? at::silu(gate) : at::gelu(gate, "tanh");
}

// Rows of scores in one product, and scores held at once: on a CPU they stay in the cache, a GPU wants large products.
constexpr std::int64_t rows_in_tile = 512;
constexpr std::int64_t cpu_scores = std::int64_t{1} << 20;
constexpr std::int64_t gpu_scores = std::int64_t{1} << 26;

// 0 where query i sees column j, -inf elsewhere; [queries, 1, columns].
at::Tensor mask_where(const at::Tensor& hidden, const at::Tensor& like) {
  return at::zeros(hidden.sizes(), like.options())
      .masked_fill(hidden, -std::numeric_limits<double>::infinity())
      .unsqueeze(1);
}

/// Rows of x [slices, keys, dim] that a tile's queries see.
at::Tensor seen(const at::Tensor& x, std::int64_t pinned, const AttentionTile& tile) {
  if (tile.first_key == 0) return x.narrow(1, 0, pinned + tile.keys);
  const at::Tensor body = x.narrow(1, pinned + tile.first_key, tile.keys);
  return pinned == 0 ? body : at::cat({x.narrow(1, 0, pinned), body}, 1);
}

/// [batch, tokens, heads, dim] -> [batch * heads, tokens, dim].
at::Tensor by_head(const at::Tensor& x) { return x.permute({0, 2, 1, 3}).reshape({-1, x.size(1), x.size(3)}); }

}  // namespace

Rope::Rope(const RopeSpec& rope, std::int64_t width, std::int64_t positions, const at::TensorOptions& options) {
  const auto f64 = at::TensorOptions().dtype(at::kDouble);
  const at::Tensor frequency = at::tensor(rope_frequencies(rope, width), f64);
  const at::Tensor angle = (at::arange(positions, f64).unsqueeze(1) * frequency).unsqueeze(1);
  const double amplitude = rope_amplitude(rope);
  cos_ = (at::cos(angle) * amplitude).to(options);
  sin_ = (at::sin(angle) * amplitude).to(options);
}

at::Tensor Rope::apply(const at::Tensor& x, std::int64_t first_position) const {
  const std::int64_t tokens = x.size(1);
  if (first_position < 0 || first_position + tokens > positions()) {
    throw InputError("rotary embedding", fmt::format("positions {} to {} are not in the table of {}", first_position,
                                                     first_position + tokens - 1, positions()));
  }
  const std::int64_t half = cos_.size(-1);
  if (half == 0) return x;
  const at::Tensor cos = cos_.narrow(0, first_position, tokens);
  const at::Tensor sin = sin_.narrow(0, first_position, tokens);
  const at::Tensor left = x.narrow(-1, 0, half);
  const at::Tensor right = x.narrow(-1, half, half);
  const std::int64_t still = x.size(3) - 2 * half;
  if (!may_overwrite()) {
    std::vector<at::Tensor> parts{at::addcmul(left * cos, right, sin, -1), at::addcmul(right * cos, left, sin)};
    if (still > 0) parts.push_back(x.narrow(-1, 2 * half, still));
    return at::cat(parts, -1);
  }
  at::Tensor out = at::empty(x.sizes(), x.options());
  at::Tensor out_left = out.narrow(-1, 0, half);
  at::Tensor out_right = out.narrow(-1, half, half);
  at::mul_out(out_left, left, cos).addcmul_(right, sin, -1);
  at::mul_out(out_right, right, cos).addcmul_(left, sin);
  if (still > 0) out.narrow(-1, 2 * half, still).copy_(x.narrow(-1, 2 * half, still));
  return out;
}

at::Tensor rms_norm(const at::Tensor& x, const at::Tensor& gamma, double eps) {
  const at::ScalarType wide = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const at::Tensor norm = at::linalg_vector_norm(x, 2, at::IntArrayRef{-1}, true, wide);
  const at::Tensor scale = at::rsqrt(norm.square() / static_cast<double>(x.size(-1)) + eps);
  at::Tensor y = (x * scale).to(x.scalar_type());
  return may_overwrite() ? y.mul_(gamma) : y * gamma;
}

at::Tensor apply(const Linear& linear, const at::Tensor& x) {
  return linear.product ? linear.product(x) : at::linear(x, linear.weight, linear.bias);
}

at::Tensor project_logits(const ModelSpec& spec, const at::Tensor& lm_head, const at::Tensor& hidden) {
  const at::Tensor logits = at::linear(hidden, lm_head);
  return spec.logit_scale == 1 ? logits : logits * spec.logit_scale;
}

at::Tensor qkv_input(const Block& block, const BlockContext& context, const at::Tensor& x, const Tap& tap) {
  const at::Tensor h = normed(block, context, NormId::attention_input, x);
  return tapped(tap, Site::qkv_input, transformed(context, Site::qkv_input, h));
}

namespace {

/// x [batch, tokens, heads, head_dim], each head times the matrix of its KV head, [kv_heads, head_dim, head_dim].
at::Tensor in_basis(const at::Tensor& x, const at::Tensor& basis) {
  if (!basis.defined()) return x;
  const std::int64_t kv_heads = basis.size(0);
  const std::int64_t dim = basis.size(1);
  const at::Tensor rows = x.to(basis.scalar_type()).reshape({-1, kv_heads, x.size(2) / kv_heads, dim});
  const at::Tensor product = at::bmm(rows.transpose(0, 1).reshape({kv_heads, -1, dim}), basis);
  return product.view({kv_heads, -1, rows.size(2), dim}).transpose(0, 1).reshape(x.sizes()).to(x.scalar_type());
}

}  // namespace

Qkv project_qkv(const Block& block, const BlockContext& context, const at::Tensor& h, std::int64_t first_position,
                const Tap& tap) {
  const ModelSpec& spec = *context.spec;
  const auto heads = [&](LinearId id, std::int64_t count) {
    return apply(block[id], h).view({h.size(0), h.size(1), count, spec.head_dim});
  };
  const auto normed_heads = [&](LinearId id, NormId norm, std::int64_t count) {
    at::Tensor x = heads(id, count);
    if (spec.qk_norm != QkNorm::all_heads) return normed(block, context, norm, x);
    return normed(block, context, norm, x.flatten(2)).view(x.sizes());
  };
  Qkv out;
  out.q = context.rope->apply(normed_heads(LinearId::q, NormId::query, spec.head_count), first_position);
  out.q = tapped(tap, Site::query, std::move(out.q));
  if (context.transforms != nullptr) out.q = context.transforms->query.apply(out.q);
  out.q = in_basis(out.q, block.key_frame.query_basis);
  out.k = context.rope->apply(normed_heads(LinearId::k, NormId::key, spec.kv_head_count), first_position);
  out.k =
      in_basis(transformed(context, Site::k_cache, tapped(tap, Site::key, std::move(out.k))), block.key_frame.basis);
  if (block.key_frame.mean.defined()) out.k = out.k - block.key_frame.mean;
  out.k = tapped(tap, Site::k_cache, std::move(out.k));
  out.v = tapped(tap, Site::v_cache, heads(LinearId::v, spec.kv_head_count));
  return out;
}

std::vector<AttentionTile> attention_tiles(std::int64_t queries, std::int64_t keys, std::int64_t group,
                                           std::int64_t window) {
  const std::int64_t past = keys - queries;
  const std::int64_t step = std::max<std::int64_t>(32, rows_in_tile / group);
  std::vector<AttentionTile> tiles;
  for (std::int64_t first = 0; first < queries; first += step) {
    const std::int64_t count = std::min(step, queries - first);
    const std::int64_t first_key = window > 0 ? std::max<std::int64_t>(0, past + first - window + 1) : 0;
    tiles.push_back({first, count, first_key, past + first + count - first_key});
  }
  return tiles;
}

at::Tensor o_input(const BlockContext& context, const at::Tensor& attended) {
  return transformed(context, Site::o_input, attended);
}

at::Tensor attend(const BlockContext& context, const Qkv& qkv) {
  const double scale = context.spec->score_scale();
  if (context.prefix == nullptr || context.prefix->length() == 0) {
    return o_input(context, attend(qkv, 0, context.window, scale));
  }
  const auto behind = [&](const at::Tensor& prefix, const at::Tensor& x) {
    return at::cat({prefix.expand({x.size(0), -1, -1, -1}), x}, 1);
  };
  return o_input(context, attend({qkv.q, behind(context.prefix->key, qkv.k), behind(context.prefix->value, qkv.v)},
                                 context.prefix->length(), context.window, scale));
}

void attention_probabilities(const at::Tensor& q, const at::Tensor& k, std::int64_t pinned, std::int64_t window,
                             double scale, const ReceiveProbabilities& receive) {
  const std::int64_t batch = q.size(0), tokens = q.size(1), dim = q.size(3);
  const std::int64_t kv_heads = k.size(2), group = q.size(2) / kv_heads;
  const std::int64_t past = k.size(1) - pinned - tokens;  // unpinned keys before the first query's own
  const std::int64_t slices = batch * kv_heads;

  // The query heads of a KV head become rows of one product: [slices, tokens * group, dim] x [slices, dim, keys].
  const at::Tensor queries = q.reshape({batch, tokens, kv_heads, group, dim}).permute({0, 2, 1, 3, 4});
  const at::Tensor keys = by_head(k);
  at::Tensor causal;  // of a whole tile against its own tokens
  for (const AttentionTile& tile : attention_tiles(tokens, past + tokens, group, window)) {
    const std::int64_t rows = tile.queries * group;
    const at::Tensor tile_queries =
        (queries.narrow(2, tile.first_query, tile.queries) * scale).reshape({slices, rows, dim});
    const at::Tensor tile_keys = seen(keys, pinned, tile).transpose(1, 2);
    const std::int64_t columns = pinned + tile.keys;
    if (tile.queries > 1 && !causal.defined()) {
      causal = mask_where(at::ones({tile.queries, tile.queries}, q.options().dtype(at::kBool)).triu(1), q);
    }
    at::Tensor beyond_window;  // [queries, 1, queries]: the tile's first keys, which only its first queries see
    const std::int64_t edge = std::min(tile.queries, tile.keys);
    if (window > 0 && past + tile.first_query + tile.queries > window) {
      const auto integers = q.options().dtype(at::kLong);
      const at::Tensor query =
          at::arange(past + tile.first_query, past + tile.first_query + tile.queries, integers).unsqueeze(1);
      const at::Tensor key = at::arange(tile.first_key, tile.first_key + edge, integers);
      beyond_window = mask_where(key <= query - window, q);
    }

    const std::int64_t held = q.is_cuda() ? gpu_scores : cpu_scores;
    const std::int64_t step = std::clamp<std::int64_t>(held / (rows * columns), 1, slices);
    for (std::int64_t first = 0; first < slices; first += step) {
      const std::int64_t count = std::min(step, slices - first);
      const at::Tensor scores = at::bmm(tile_queries.narrow(0, first, count), tile_keys.narrow(0, first, count));
      at::Tensor by_token = scores.view({count, tile.queries, group, columns});
      if (tile.queries > 1) {
        by_token.narrow(3, columns - tile.queries, tile.queries)
            .add_(causal.narrow(0, 0, tile.queries).narrow(2, 0, tile.queries));
      }
      if (beyond_window.defined()) by_token.narrow(3, pinned, edge).add_(beyond_window);
      const auto wide = scores.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
      receive(tile, first, at::softmax(scores, -1, wide));
    }
  }
}

at::Tensor attend(const Qkv& qkv, std::int64_t pinned, std::int64_t window, double scale) {
  const std::int64_t batch = qkv.q.size(0), heads = qkv.q.size(2), dim = qkv.q.size(3);
  const std::int64_t kv_heads = qkv.k.size(2), slices = batch * kv_heads;
  const at::Tensor values = by_head(qkv.v);
  at::Tensor tile_values;
  std::vector<at::Tensor> pieces, attended;
  const auto receive = [&](const AttentionTile& tile, std::int64_t first, const at::Tensor& probabilities) {
    if (first == 0) tile_values = seen(values, pinned, tile);
    const std::int64_t count = probabilities.size(0);
    pieces.push_back(at::bmm(probabilities.to(qkv.v.scalar_type()), tile_values.narrow(0, first, count)));
    if (first + count < slices) return;
    const at::Tensor whole = pieces.size() == 1 ? pieces.front() : at::cat(pieces, 0);
    pieces.clear();
    attended.push_back(whole.view({batch, kv_heads, tile.queries, heads / kv_heads, dim})
                           .permute({0, 2, 1, 3, 4})
                           .reshape({batch, tile.queries, heads * dim}));
  };
  attention_probabilities(qkv.q, qkv.k, pinned, window, scale, receive);
  return attended.size() == 1 ? attended.front() : at::cat(attended, 1);
}

at::Tensor attention_output(const Block& block, const BlockContext& context, const at::Tensor& x,
                            const at::Tensor& attended, const Tap& tap) {
  return add_residual(block, context, NormId::attention_output, x,
                      apply(block[LinearId::o], tapped(tap, Site::o_input, attended)));
}

at::Tensor gate_up_input(const Block& block, const BlockContext& context, const at::Tensor& x, const Tap& tap) {
  const at::Tensor h = normed(block, context, NormId::mlp_input, x);
  return tapped(tap, Site::gate_up_input, transformed(context, Site::gate_up_input, h));
}

at::Tensor gated_product(const Block& block, const BlockContext& context, const at::Tensor& h, const Tap& tap) {
  return gated_product(block, context, h, h, tap);
}

at::Tensor gated_product(const Block& block, const BlockContext& context, const at::Tensor& gate_input,
                         const at::Tensor& up_input, const Tap& tap) {
  at::Tensor product = apply(block[LinearId::gate], gate_input);
  const Activation activation = context.spec->activation;
  if (may_overwrite() && activation == Activation::silu) {
    at::silu_(product).mul_(apply(block[LinearId::up], up_input));
  } else {
    product = activated(activation, product) * apply(block[LinearId::up], up_input);
  }
  product = tapped(tap, Site::down_product, std::move(product));
  return transformed(context, Site::down_input, product);
}

at::Tensor mlp_output(const Block& block, const BlockContext& context, const at::Tensor& x, const at::Tensor& product,
                      const Tap& tap) {
  return tapped(tap, Site::block_output,
                add_residual(block, context, NormId::mlp_output, x,
                             apply(block[LinearId::down], tapped(tap, Site::down_input, product))));
}

at::Tensor forward(const Block& block, const BlockContext& context, const at::Tensor& x, const Tap& tap,
                   KeyValue* present, const KeyValue* past) {
  const std::int64_t earlier = past != nullptr ? past->length() : 0;
  const std::int64_t first_position = (context.prefix != nullptr ? context.prefix->length() : 0) + earlier;
  at::Tensor attended;
  {
    Qkv qkv = project_qkv(block, context, qkv_input(block, context, x, tap), first_position, tap);
    if (present != nullptr) *present = {qkv.k, qkv.v};
    if (earlier > 0) {
      qkv.k = at::cat({past->key, qkv.k}, 1);
      qkv.v = at::cat({past->value, qkv.v}, 1);
    }
    attended = attend(context, qkv);
  }
  const at::Tensor middle = attention_output(block, context, x, attended, tap);
  return mlp_output(block, context, middle,
                    gated_product(block, context, gate_up_input(block, context, middle, tap), tap), tap);
}

}  // namespace pq::nn
