#include "runtime/model_parts.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/index.h"
#include "numerics/quantize.h"
#include "runtime/workspace.h"

namespace pq::runtime {
namespace {}  // namespace

OnlineRotation::OnlineRotation(std::int64_t order) : plan_(plan_hadamard(order)) {
  if (plan_.base == 1) return;
  const std::vector<std::int8_t> base = hadamard_base(plan_.base);
  base_.assign(base.begin(), base.end());
}

kernels::Hadamard OnlineRotation::kernel() const {
  return {plan_.order,
          plan_.blocks,
          plan_.base,
          plan_.power,
          base_.empty() ? nullptr : base_.data(),
          static_cast<float>(1.0 / std::sqrt(static_cast<double>(plan_.block_order())))};
}

std::shared_ptr<const RopeChunk> RopeTable::chunk(std::int64_t i) const {
  const std::lock_guard lock(mutex_);
  if (chunks_.size() <= index(i)) chunks_.resize(index(i) + 1);
  if (chunks_[index(i)]) return chunks_[index(i)];
  const std::int64_t half = head_dim_ / 2;
  auto made = std::make_shared<RopeChunk>();
  made->cos.resize(index(RopeChunk::positions * half));
  made->sin.resize(made->cos.size());
  for (std::int64_t pair = 0; pair < half; ++pair) {
    const double frequency = std::pow(theta_, -static_cast<double>(2 * pair) / static_cast<double>(head_dim_));
    for (std::int64_t position = 0; position < RopeChunk::positions; ++position) {
      const double angle = static_cast<double>(i * RopeChunk::positions + position) * frequency;
      made->cos[index(position * half + pair)] = static_cast<float>(std::cos(angle));
      made->sin[index(position * half + pair)] = static_cast<float>(std::sin(angle));
    }
  }
  chunks_[index(i)] = made;
  return made;
}

WorkspacePool::WorkspacePool() = default;
WorkspacePool::~WorkspacePool() = default;

std::unique_ptr<Workspace> WorkspacePool::take() const {
  const std::lock_guard lock(mutex_);
  if (idle_.empty()) return std::make_unique<Workspace>();
  std::unique_ptr<Workspace> workspace = std::move(idle_.back());
  idle_.pop_back();
  return workspace;
}

void WorkspacePool::give_back(std::unique_ptr<Workspace> workspace) const {
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(workspace));
}

ModelParts::ModelParts(const ModelSpec& model_spec, const Recipe& model_recipe, const ModelOptions& model_options,
                       const kernels::KernelTable& kernel_table)
    : spec(model_spec),
      recipe(model_recipe),
      options(model_options),
      table(kernel_table),
      kv(plan_kv(model_spec, model_recipe.kv, model_options.kv_bits, model_options.float_attention)),
      rope(model_spec.head_dim, model_spec.rope_theta) {
  if (recipe.rotate.r3) r3.emplace(spec.head_dim);
  if (recipe.rotate.r4) r4.emplace(spec.intermediate_size);
}
ModelParts::~ModelParts() = default;

kernels::KvHead ModelParts::head(const KvCache& cache, std::int64_t block, std::int64_t kv_head) const {
  const PackedBlock& of = blocks[index(block)];
  kernels::KvHead result = cache.head(block, kv_head, of.key, of.value);
  if (prefix() == 0) return result;
  const std::size_t offset = index(kv_head * prefix() * kv.layout.padded_dim);
  result.prefix_key = of.prefix_key.as<float>().data() + offset;
  result.prefix_value = of.prefix_value.as<float>().data() + offset;
  return result;
}

void ModelParts::embed(std::int32_t token, std::span<float> out) const {
  io::rows_to_float32(embedding, token, 1, out);
  const float largest = max_abs(out);
  if (!std::isfinite(largest)) refuse_not_finite(embedding);
  if (options.lm_head_bits == 8) fake_quantize(out, symmetric_scale(largest, 1, 8), 0, quant_range(8, true));
}

void Workspace::cover(const ModelParts& parts, std::int64_t rows_needed, std::int64_t threads_needed) {
  const ModelSpec& spec = parts.spec;
  if (rows_needed > rows) {
    rows = rows_needed <= 8 ? 8 : rows_needed <= 64 ? 64 : most_rows;
    hidden_stride = round_up(spec.hidden_size, 32);
    query_stride = round_up(spec.query_size(), 32);
    kv_stride = round_up(spec.kv_size(), 32);
    ffn_stride = round_up(spec.intermediate_size, 32);
    const auto floats = [&](std::int64_t stride) { return AlignedBuffer::of<float>(index(rows * stride)); };
    residual = floats(hidden_stride);
    normed = floats(hidden_stride);
    query = floats(query_stride);
    key = floats(kv_stride);
    value = floats(kv_stride);
    attended = floats(query_stride);
    product = floats(ffn_stride);
    code_stride = round_up(std::max({hidden_stride, query_stride, ffn_stride}), 64);
    plane_stride = rows * code_stride;
    most_segments = parts.head_input.plan.segments;
    for (const PackedBlock& block : parts.blocks) {
      for (const LinearInput* input : {&block.qkv_input, &block.o_input, &block.gate_up_input, &block.down_input}) {
        most_segments = std::max(most_segments, input->plan.segments);
      }
    }
    codes = AlignedBuffer(index(2 * plane_stride));
    scales = floats(most_segments);
    zeros = floats(most_segments);
    sums = floats(most_segments);
    rounded = AlignedBuffer::of<std::uint16_t>(index(rows * code_stride));
    key_params.resize(index(rows));
    value_params.resize(index(rows));
    threads = 0;
  }
  if (threads_needed <= threads) return;
  threads = threads_needed;
  const std::int64_t widest = std::max({hidden_stride, query_stride, ffn_stride});
  const std::int64_t heads = spec.head_count / spec.kv_head_count;
  const auto attention = static_cast<std::int64_t>(
      kernels::attention_scratch_bytes(parts.kv.layout, std::min(rows, attention_tile) * heads));
  const auto gemm = static_cast<std::int64_t>(kernels::gemm_scratch_bytes(widest));
  scratch_bytes = round_up(std::max(attention, gemm), 4096);
  scratch = AlignedBuffer(index(threads * scratch_bytes));
}

}  // namespace pq::runtime
