#include "runtime/attention.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/index.h"
#include "base/parallel_for.h"
#include "runtime/dynamic_params.h"

namespace pq::runtime {
namespace {

/// Neighbouring tokens of one run under one KV head.
struct Task {
  std::int64_t run;
  std::int64_t head;
  std::int64_t first;  ///< row of the run
  std::int64_t count;
};

/// Every head of every run in pieces of `step` tokens; `aligned`: pieces end at multiples of it in the cache.
std::vector<Task> cut(const Batch& batch, std::int64_t kv_heads, std::int64_t step, bool aligned) {
  std::vector<Task> tasks;
  tasks.reserve(index((batch.rows() / step + 2 * batch.runs()) * kv_heads));
  for (std::int64_t run = 0; run < batch.runs(); ++run) {
    const auto count = static_cast<std::int64_t>(batch.run(run).tokens.size());
    const std::int64_t start = aligned ? batch.run(run).sequence->length % step : 0;
    for (std::int64_t head = 0; head < kv_heads; ++head) {
      for (std::int64_t first = 0; first < count;) {
        const std::int64_t size = std::min(first == 0 ? step - start : step, count - first);
        tasks.push_back({run, head, first, size});
        first += size;
      }
    }
  }
  return tasks;
}

/// Calls body(task, thread) for all of them.
template <typename Body>
void for_tasks(const std::vector<Task>& tasks, Split split, const Body& body) {
  parallel_ranges(tasks.size(), 1, split, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    for (std::size_t i = begin; i < end; ++i) body(tasks[i], thread);
  });
}

/// The scale of a token's whole K and V.
struct TokenParams {
  AffineParams key;
  AffineParams value;
};

class BlockAttention {
 public:
  BlockAttention(const ModelParts& parts, std::int64_t block, const Batch& batch, const AttentionRows& rows)
      : parts_(parts), of_(parts.blocks[index(block)]), block_(block), batch_(batch), rows_(rows) {}

  void rotate(std::int64_t row, std::int64_t first_kv_head, std::int64_t kv_heads, std::byte* scratch) const;
  TokenParams token_params(std::int64_t row) const;
  /// `tokens`: of every row; empty where the format has none.
  void store(const Task& task, std::span<const TokenParams> tokens) const;
  void attend(const Task& task, std::byte* scratch) const;

 private:
  std::int64_t group() const { return parts_.spec.head_count / parts_.spec.kv_head_count; }

  const ModelParts& parts_;
  const PackedBlock& of_;
  std::int64_t block_;
  const Batch& batch_;
  const AttentionRows& rows_;
};

// The norm of Q or K, RoPE, transform, basis, and K's mean, for some KV heads of a row and the query heads that read
// them.
void BlockAttention::rotate(std::int64_t row, std::int64_t first_kv_head, std::int64_t kv_heads,
                            std::byte* scratch) const {
  const std::int64_t dim = parts_.spec.head_dim;
  const std::int64_t position = parts_.prefix() + batch_.position(row);
  const Sequence& sequence = *batch_.run(batch_.run_of(row)).sequence;
  const std::int64_t width = parts_.ropes[of_.rope].width();
  const RopeChunk& chunk = *sequence.ropes[of_.rope][index(position / RopeChunk::positions)];
  const std::int64_t at = position % RopeChunk::positions * (width / 2);
  const auto rotate_heads = [&](float* heads, std::int64_t count, NormId norm, const OnlineTransform& transform) {
    if (const std::vector<float>& gamma = of_.norms[norm]; !gamma.empty()) {
      const auto eps = static_cast<float>(parts_.spec.rms_norm_eps);
      const auto size = static_cast<std::int64_t>(gamma.size());
      for (float* part = heads; part < heads + count * dim; part += size) {
        parts_.table.rms_norm(part, gamma.data(), eps, size, part);
      }
    }
    if (width > 0) parts_.table.rope(heads, count, dim, width, chunk.cos.data() + at, chunk.sin.data() + at);
    transform.apply(heads, count, parts_.table, scratch);
  };
  const auto to_basis = [&](float* heads, std::int64_t of_each, const std::vector<float>& basis) {
    if (basis.empty()) return;
    const float* matrix = basis.data() + first_kv_head * dim * dim;
    auto* floats = reinterpret_cast<float*>(scratch);
    for (std::int64_t head = 0; head < kv_heads; ++head, heads += of_each * dim, matrix += dim * dim) {
      parts_.table.multiply_rows(heads, of_each, dim, matrix, floats);
    }
  };
  float* queries = rows_.query.row(row) + first_kv_head * group() * dim;
  rotate_heads(queries, kv_heads * group(), NormId::query, of_.query_transform);
  to_basis(queries, group(), of_.query_basis);
  float* keys = rows_.key.row(row) + first_kv_head * dim;
  rotate_heads(keys, kv_heads, NormId::key, of_.key_transform);
  to_basis(keys, 1, of_.key_basis);
  if (of_.key_mean.empty()) return;
  const float* mean = of_.key_mean.data() + first_kv_head * dim;
  for (std::int64_t i = 0; i < kv_heads * dim; ++i) keys[i] -= mean[i];
}

TokenParams BlockAttention::token_params(std::int64_t row) const {
  const auto params_of = [&](const Rows& rows, const KvQuantizer& quantizer) {
    float low = 0;
    float high = 0;
    parts_.table.min_max(rows.row(row), parts_.spec.kv_size(), &low, &high);
    return dynamic_params(of_.kv.format, quantizer.parameters.clip, low, high);
  };
  return {params_of(rows_.key, of_.key), params_of(rows_.value, of_.value)};
}

void BlockAttention::store(const Task& task, std::span<const TokenParams> tokens) const {
  Sequence& sequence = *batch_.run(task.run).sequence;
  const std::int64_t offset = task.head * parts_.spec.head_dim;
  for (std::int64_t i = task.first; i < task.first + task.count; ++i) {
    const std::int64_t row = batch_.first_row(task.run) + i;
    const std::int64_t position = sequence.length + i;
    const TokenParams token = tokens.empty() ? TokenParams{} : tokens[index(row)];
    sequence.cache.store(KvCache::Part::key, block_, task.head, position, rows_.key.row(row) + offset, of_.key,
                         token.key, parts_.table);
    sequence.cache.store(KvCache::Part::value, block_, task.head, position, rows_.value.row(row) + offset, of_.value,
                         token.value, parts_.table);
  }
}

void BlockAttention::attend(const Task& task, std::byte* scratch) const {
  const ModelSpec& spec = parts_.spec;
  const Sequence& sequence = *batch_.run(task.run).sequence;
  const std::int64_t row = batch_.first_row(task.run) + task.first;
  const std::int64_t offset = task.head * group() * spec.head_dim;
  const kernels::Attention attention{.layout = sequence.cache.layout(block_),
                                     .head = parts_.head(sequence.cache, block_, task.head),
                                     .prefix = parts_.prefix(),
                                     .query = rows_.query.row(row) + offset,
                                     .query_stride = rows_.query.stride,
                                     .out = rows_.out.row(row) + offset,
                                     .out_stride = rows_.out.stride,
                                     .queries = task.count,
                                     .group_heads = group(),
                                     .first = sequence.length + task.first,
                                     .window = of_.window,
                                     .scale = static_cast<float>(spec.score_scale())};
  parts_.table.attend(attention, scratch);
}

/// Of the sequences whose cache was given what binary16 cannot hold. Whether there was one.
bool widen_caches(const Batch& batch) {
  bool any = false;
  for (std::int64_t run = 0; run < batch.runs(); ++run) {
    const auto& [sequence, added] = batch.run(run);
    if (!sequence->cache.beyond_half()) continue;
    // The blocks before this one hold the new tokens already.
    sequence->cache.widen(sequence->length + static_cast<std::int64_t>(added.size()));
    any = true;
  }
  return any;
}

}  // namespace

void attend(const ModelParts& parts, std::int64_t block, const Batch& batch, const AttentionRows& rows,
            Scratch& scratch) {
  const BlockAttention attention(parts, block, batch, rows);
  const std::int64_t kv_heads = parts.spec.kv_head_count;
  const bool per_token = parts.blocks[index(block)].kv.per_token();
  const bool one_each = batch.rows() == batch.runs();
  bool rotated = per_token || !one_each || parts.spec.qk_norm == QkNorm::all_heads;
  std::vector<TokenParams> tokens(per_token ? index(batch.rows()) : 0);
  if (rotated) {
    const std::int64_t values = parts.spec.query_size() + parts.spec.kv_size();
    for_rows(batch.rows(), values, scratch, [&](std::int64_t row, std::byte* memory) {
      attention.rotate(row, 0, kv_heads, memory);
      if (per_token) tokens[index(row)] = attention.token_params(row);
    });
  }
  if (one_each) {
    // One task a head does everything, so that threads meet once.
    const std::vector<Task> tasks = cut(batch, kv_heads, 1, false);
    do {
      for_tasks(tasks, tasks.size() > 16 ? Split::fine : Split::even, [&](const Task& task, std::size_t thread) {
        if (!rotated) attention.rotate(batch.first_row(task.run), task.head, 1, scratch.of(thread));
        attention.store(task, tokens);
        attention.attend(task, scratch.of(thread));
      });
      rotated = true;
    } while (widen_caches(batch));
    return;
  }
  do {
    // Tokens that lie in one block of the cache are one thread's.
    for_tasks(cut(batch, kv_heads, 32, true), Split::fine,
              [&](const Task& task, std::size_t) { attention.store(task, tokens); });
  } while (widen_caches(batch));
  for_tasks(cut(batch, kv_heads, attention_tile, false), Split::fine,
            [&](const Task& task, std::size_t thread) { attention.attend(task, scratch.of(thread)); });
}

}  // namespace pq::runtime
