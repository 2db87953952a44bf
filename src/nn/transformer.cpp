#include "nn/transformer.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstring>

#include "base/error.h"
#include "base/parallel_for.h"
#include "io/safetensors.h"
#include "model/token_range.h"

namespace pq::nn {
namespace {

void check_finite(const io::TensorView& view, std::span<const float> values) {
  constexpr std::uint32_t exponent = 0x7f800000U;
  std::atomic<bool> finite = true;
  parallel_for(values.size(), std::size_t{1} << 18, [&](std::size_t begin, std::size_t end) {
    std::uint32_t bad = 0;
    for (std::size_t i = begin; i < end; ++i) {
      bad |= static_cast<std::uint32_t>((std::bit_cast<std::uint32_t>(values[i]) & exponent) == exponent);
    }
    if (bad != 0) finite = false;
  });
  if (!finite) io::refuse_not_finite(view);
}

std::span<float> span_of(at::Tensor& tensor) {
  return {tensor.data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

at::Tensor load(const io::TensorView& view, const at::TensorOptions& options) {
  at::Tensor values = at::empty(view.shape, at::kFloat);
  io::to_float32(view, span_of(values));
  check_finite(view, span_of(values));
  return values.to(options);
}

/// A norm's weight: what multiplies, so that 1 is added in float32 to one that is stored as an offset from 1.
at::Tensor load_norm(const io::TensorView& view, bool offset, const at::TensorOptions& options) {
  const at::Tensor weight = load(view, at::TensorOptions().dtype(at::kFloat));
  return (offset ? weight + 1 : weight).to(options);
}

/// The named tensor outside the blocks.
io::TensorView view_of(const io::HfCheckpoint& checkpoint, std::string_view name) {
  if (name == tensor_names::embedding) return checkpoint.embedding();
  if (name == tensor_names::lm_head) return checkpoint.lm_head();
  if (name == tensor_names::final_norm) return checkpoint.final_norm();
  throw InputError(name, "is not a tensor outside the blocks", "load_block reads those of a block");
}

void check_tokens(const at::Tensor& tokens, const ModelSpec& spec) {
  const at::Tensor ids = tokens.cpu().contiguous();
  const std::int64_t* data = ids.data_ptr<std::int64_t>();
  for (std::int64_t i = 0; i < ids.numel(); ++i) check_token(data[i], spec);
}

/// K and V of the sequences being sampled, with room for all tokens; laid out so that attend() reads them in place.
class Cache {
 public:
  Cache(std::int64_t batch, std::int64_t capacity, const ModelSpec& spec, const at::TensorOptions& options)
      : key_(at::empty({batch, spec.kv_head_count, capacity, spec.head_dim}, options).permute({0, 2, 1, 3})),
        value_(at::empty_like(key_)) {}

  void append(const at::Tensor& key, const at::Tensor& value) {
    key_.narrow(1, length_, key.size(1)).copy_(key);
    value_.narrow(1, length_, value.size(1)).copy_(value);
    length_ += key.size(1);
  }
  KeyValue contents() const { return {key_.narrow(1, 0, length_), value_.narrow(1, 0, length_)}; }

 private:
  at::Tensor key_;    // [batch, capacity, kv_heads, head_dim], in memory [batch, kv_heads, capacity, head_dim]
  at::Tensor value_;  // the same
  std::int64_t length_ = 0;
};

constexpr std::int64_t max_sampled_together = 64;
constexpr std::int64_t sampling_cache_bytes = std::int64_t{1} << 30;

// Depends on the model and the length alone, so that the products of a sequence do not change with how many are asked
// for.
std::int64_t sampled_together(const ModelSpec& spec, std::int64_t tokens, std::int64_t element_size) {
  const std::int64_t bytes = 2 * spec.block_count * tokens * spec.kv_size() * element_size;
  return std::clamp<std::int64_t>(sampling_cache_bytes / bytes, 1, max_sampled_together);
}

/// The token at which the running sum of `probabilities` passes a uniform draw.
std::int64_t draw(std::span<const float> probabilities, Random& random) {
  double left = random.uniform();
  std::int64_t last = 0;
  for (std::size_t i = 0; i < probabilities.size(); ++i) {
    if (probabilities[i] <= 0) continue;
    last = static_cast<std::int64_t>(i);
    left -= static_cast<double>(probabilities[i]);
    if (left < 0) break;
  }
  return last;
}

}  // namespace

at::Tensor load_tensor(const io::HfCheckpoint& checkpoint, std::string_view name, const at::TensorOptions& options) {
  if (name == tensor_names::final_norm) {
    return load_norm(checkpoint.final_norm(), checkpoint.spec().norm_offset, options);
  }
  return load(view_of(checkpoint, name), options);
}

Block load_block(const io::HfCheckpoint& checkpoint, std::int64_t index, const at::TensorOptions& options) {
  Block block;
  for (const NormRow& norm : all_norms(checkpoint.spec())) {
    block.norms[norm.id] = load_norm(checkpoint.norm(index, norm.id), norm.unit_offset, options);
  }
  for (const LinearId id : all_linears) {
    const io::LinearView linear = checkpoint.linear(index, id);
    block[id].weight = load(linear.weight, options);
    if (linear.bias) block[id].bias = load(*linear.bias, options);
  }
  return block;
}

at::Tensor load_rows(const io::HfCheckpoint& checkpoint, std::string_view name, std::int64_t first_row,
                     std::int64_t row_count, const at::TensorOptions& options) {
  return load(view_of(checkpoint, name).rows(first_row, row_count), options);
}

at::Tensor embed(const io::HfCheckpoint& checkpoint, const at::Tensor& tokens, const at::TensorOptions& options) {
  const at::Tensor rows = embedding_rows(checkpoint, tokens, options);
  return checkpoint.spec().embedding_scale == 1 ? rows : rows * checkpoint.spec().embedding_scale;
}

at::Tensor embedding_rows(const io::HfCheckpoint& checkpoint, const at::Tensor& tokens,
                          const at::TensorOptions& options) {
  const ModelSpec& spec = checkpoint.spec();
  const io::TensorView view = checkpoint.embedding();
  const at::Tensor ids = tokens.cpu().contiguous();
  at::Tensor rows = at::empty({tokens.size(0), tokens.size(1), spec.hidden_size}, at::kFloat);
  const std::span<float> out = span_of(rows);
  const auto hidden = static_cast<std::size_t>(spec.hidden_size);
  for (std::size_t i = 0; i < out.size() / hidden; ++i) {
    const std::int64_t token = ids.data_ptr<std::int64_t>()[i];
    check_token(token, spec);
    io::rows_to_float32(view, token, 1, out.subspan(i * hidden, hidden));
  }
  check_finite(view, out);
  return rows.to(options);
}

Transformer::Transformer(Parts parts) : parts_(std::move(parts)) {
  require_supported(parts_.spec, "model");
  if (parts_.blocks.size() != static_cast<std::size_t>(parts_.spec.block_count)) {
    throw InputError("model",
                     fmt::format("has {} blocks, its spec says {}", parts_.blocks.size(), parts_.spec.block_count));
  }
  const SiteTransforms first = parts_.transforms.empty() ? SiteTransforms{} : parts_.transforms.front();
  context_ = ModelContext(parts_.spec, first, 0, parts_.embedding.options());
  for (std::size_t i = 1; i < parts_.transforms.size(); ++i) {
    context_.set_transforms(static_cast<std::int64_t>(i), parts_.transforms[i]);
  }
  set_prefix(std::move(parts_.prefix));
}

std::unique_ptr<Transformer> Transformer::load(const io::HfCheckpoint& checkpoint, const at::TensorOptions& options) {
  Parts parts;
  parts.spec = checkpoint.spec();
  parts.embedding = load_tensor(checkpoint, tensor_names::embedding, options);
  parts.final_norm = load_tensor(checkpoint, tensor_names::final_norm, options);
  parts.lm_head =
      parts.spec.tied_embeddings ? parts.embedding : load_tensor(checkpoint, tensor_names::lm_head, options);
  for (std::int64_t i = 0; i < parts.spec.block_count; ++i) parts.blocks.push_back(load_block(checkpoint, i, options));
  return std::make_unique<Transformer>(std::move(parts));
}

std::int64_t Transformer::prefix_length() const { return parts_.prefix.empty() ? 0 : parts_.prefix.front().length(); }

BlockContext Transformer::context(std::int64_t block) const {
  return context_.block(block, parts_.prefix.empty() ? nullptr : &parts_.prefix[static_cast<std::size_t>(block)]);
}

Tap Transformer::tap(std::int64_t block) const { return parts_.taps ? parts_.taps(block) : Tap{}; }

at::Tensor Transformer::embedded(const at::Tensor& tokens) const {
  check_tokens(tokens, parts_.spec);
  const at::Tensor rows = at::embedding(parts_.embedding, tokens.to(parts_.embedding.device()));
  return parts_.spec.embedding_scale == 1 ? rows : rows * parts_.spec.embedding_scale;
}

at::Tensor Transformer::hidden(const at::Tensor& tokens) {
  const at::NoGradGuard no_grad;
  at::Tensor x = embedded(tokens);
  context_.cover(prefix_length() + tokens.size(1));
  for (std::int64_t i = 0; i < parts_.spec.block_count; ++i) {
    x = forward(parts_.blocks[static_cast<std::size_t>(i)], context(i), x, tap(i));
  }
  return rms_norm(x, parts_.final_norm, parts_.spec.rms_norm_eps);
}

at::Tensor Transformer::head(const at::Tensor& hidden) const {
  return project_logits(parts_.spec, parts_.lm_head, hidden);
}

void Transformer::run(std::span<const std::int32_t> tokens, std::int64_t sequences) {
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (sequences < 1 || count == 0 || count % sequences != 0) {
    throw InputError("tokens",
                     fmt::format("{} tokens cannot be split into {} sequences of equal length", count, sequences));
  }
  at::Tensor ids = at::empty({sequences, count / sequences}, at::kLong);
  std::copy(tokens.begin(), tokens.end(), ids.data_ptr<std::int64_t>());
  last_hidden_ = hidden(ids).view({count, parts_.spec.hidden_size});
}

void Transformer::logits(std::int64_t first, std::int64_t count, std::span<float> out) {
  const at::NoGradGuard no_grad;
  const std::int64_t available = last_hidden_.defined() ? last_hidden_.size(0) : 0;
  if (first < 0 || count < 0 || first > available || count > available - first) {
    throw InputError("logits", fmt::format("rows {} to {} were not run", first, first + count - 1));
  }
  if (out.size() != static_cast<std::size_t>(count) * static_cast<std::size_t>(parts_.spec.vocab_size)) {
    throw InputError("logits", fmt::format("room for {} values does not fit {} rows", out.size(), count));
  }
  at::from_blob(out.data(), {count, parts_.spec.vocab_size}, at::kFloat)
      .copy_(head(last_hidden_.narrow(0, first, count)));
}

std::vector<KeyValue> Transformer::prefix_key_values(const std::vector<std::int32_t>& token_ids) {
  const at::NoGradGuard no_grad;
  std::vector<KeyValue> out(parts_.blocks.size());
  if (token_ids.empty()) return {};
  at::Tensor ids = at::empty({1, static_cast<std::int64_t>(token_ids.size())}, at::kLong);
  std::copy(token_ids.begin(), token_ids.end(), ids.data_ptr<std::int64_t>());
  at::Tensor x = embedded(ids);
  context_.cover(ids.size(1));
  for (std::int64_t i = 0; i < parts_.spec.block_count; ++i) {
    const auto index = static_cast<std::size_t>(i);
    x = forward(parts_.blocks[index], context_.block(i), x, tap(i), &out[index]);
  }
  return out;
}

void Transformer::set_prefix(std::vector<KeyValue> prefix) {
  if (!prefix.empty() && prefix.size() != parts_.blocks.size()) {
    throw InputError("prefix",
                     fmt::format("has K and V for {} blocks, the model has {}", prefix.size(), parts_.blocks.size()));
  }
  const auto rounded = [&](const at::Tensor& x, std::int64_t length) {
    const std::vector<std::int64_t> shape{1, length, parts_.spec.kv_head_count, parts_.spec.head_dim};
    if (x.sizes() != at::IntArrayRef(shape)) throw InputError("prefix", "K or V does not have the model's shape");
    const at::Tensor half = x.detach().to(at::kHalf);
    if (!at::isfinite(half).all().item<bool>()) {
      throw InputError("prefix", "K or V is beyond 65504, the range of binary16",
                       "leave the prefix out (--prefix none)");
    }
    return half.to(parts_.embedding.options()).contiguous();
  };
  const std::int64_t length = prefix.empty() ? 0 : prefix.front().length();
  for (KeyValue& block : prefix) block = {rounded(block.key, length), rounded(block.value, length)};
  if (length == 0) prefix.clear();
  parts_.prefix = std::move(prefix);
}

std::vector<std::vector<std::int32_t>> Transformer::sample(
    std::int64_t count, std::int64_t length, std::int32_t first_token, std::uint64_t seed,
    const std::function<void(std::int64_t done, std::int64_t total)>& progress) {
  if (count < 0 || length < 1) throw InputError("sampling", fmt::format("{} sequences of {} tokens", count, length));
  check_token(first_token, parts_.spec);
  const at::NoGradGuard no_grad;
  const std::int64_t capacity = prefix_length() + length;
  const std::int64_t together = sampled_together(parts_.spec, capacity, parts_.embedding.element_size());
  context_.cover(capacity);
  std::vector<std::vector<std::int32_t>> out;
  for (std::int64_t first = 0; first < count; first += together) {
    const std::int64_t batch = std::min(together, count - first);
    std::vector<Random> random;
    for (std::int64_t i = 0; i < batch; ++i) random.emplace_back(seed, fmt::format("sampled sequence {}", first + i));
    sample_batch(length, first_token, random, out, [&](std::int64_t position) {
      if (progress) progress(first * length + batch * position, count * length);
    });
  }
  return out;
}

void Transformer::sample_batch(std::int64_t length, std::int32_t first_token, std::vector<Random>& random,
                               std::vector<std::vector<std::int32_t>>& out,
                               const std::function<void(std::int64_t)>& progress) {
  const auto batch = static_cast<std::int64_t>(random.size());
  const auto vocab = static_cast<std::size_t>(parts_.spec.vocab_size);
  const std::int64_t pinned = prefix_length();
  std::vector<Cache> caches;
  std::vector<Tap> taps;
  for (std::int64_t i = 0; i < parts_.spec.block_count; ++i) {
    caches.emplace_back(batch, pinned + length, parts_.spec, parts_.embedding.options());
    taps.push_back(tap(i));
    if (pinned == 0) continue;
    const KeyValue& prefix = parts_.prefix[static_cast<std::size_t>(i)];
    caches.back().append(prefix.key.expand({batch, -1, -1, -1}), prefix.value.expand({batch, -1, -1, -1}));
  }

  at::Tensor tokens = at::full({batch, 1}, std::int64_t{first_token}, at::kLong);
  std::int64_t* ids = tokens.data_ptr<std::int64_t>();
  std::vector<std::vector<std::int32_t>> sequences(random.size(), std::vector<std::int32_t>{first_token});
  for (std::int64_t position = 1; position < length; ++position) {
    at::Tensor x = embedded(tokens);
    for (std::size_t i = 0; i < parts_.blocks.size(); ++i) {
      const Block& block = parts_.blocks[i];
      const BlockContext here = context(static_cast<std::int64_t>(i));
      Qkv qkv = project_qkv(block, here, qkv_input(block, here, x, taps[i]), pinned + position - 1, taps[i]);
      caches[i].append(qkv.k, qkv.v);
      const KeyValue seen = caches[i].contents();
      x = attention_output(
          block, here, x,
          o_input(here, attend({qkv.q, seen.key, seen.value}, pinned, here.window, parts_.spec.score_scale())),
          taps[i]);
      x = mlp_output(block, here, x, gated_product(block, here, gate_up_input(block, here, x, taps[i]), taps[i]),
                     taps[i]);
    }
    x = head(rms_norm(x, parts_.final_norm, parts_.spec.rms_norm_eps));
    const at::Tensor probabilities = at::softmax(x.to(at::kCPU, at::kFloat), -1).contiguous();
    const float* rows = probabilities.data_ptr<float>();
    parallel_for(random.size(), 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) ids[i] = draw({rows + i * vocab, vocab}, random[i]);
    });
    for (std::size_t i = 0; i < sequences.size(); ++i) sequences[i].push_back(static_cast<std::int32_t>(ids[i]));
    progress(position + 1);
  }
  for (auto& sequence : sequences) out.push_back(std::move(sequence));
}

}  // namespace pq::nn
