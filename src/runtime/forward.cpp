#include "runtime/forward.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/index.h"
#include "base/parallel_for.h"

namespace pq::runtime {
namespace {

using kernels::Store;

constexpr std::size_t rows_are_worth_a_thread = 8192;        // values to norm or quantize
constexpr std::int64_t product_is_worth_a_thread = 1 << 16;  // multiplications

/// A linear layer to apply to the prepared rows: out (+)= rows * weights, or silu(rows * weights) * (rows * up).
struct Product {
  const PackedLinear* weights;
  const PackedLinear* up;
  float* out;
  std::int64_t out_stride;
  Store store;
};

class Pass {
 public:
  Pass(const ModelParts& parts, Workspace& workspace) : parts_(parts), table_(parts.table), work_(workspace) {}

  void layers(std::span<const Run> runs, const Probe& probe);
  void logits(const float* residual, std::int64_t stride, std::int64_t rows, float* out);

 private:
  /// Rows of floats that a site quantizes, with the norm or the rotation that comes first.
  struct Rows {
    float* values;  ///< changed in place by a rotation, and by a fake quantizer where there is no norm
    std::int64_t stride;
    const std::vector<float>* gamma;
    const OnlineRotation* rotation;
  };
  struct AttentionTask {
    std::int64_t run;
    std::int64_t head;
    std::int64_t first;  ///< row of the run
    std::int64_t count;
  };

  void prepare(const LinearInput& input, const Rows& rows);
  const std::uint16_t* round_rows(const LinearInput& input, const PackedLinear& weights);
  void multiply(const LinearInput& input, std::span<const Product> products);
  void attention(std::int64_t block);
  void rotate_row(std::int64_t row, std::int64_t first_kv_head, std::int64_t kv_heads, std::byte* scratch);
  void find_token_scales(const PackedBlock& block, std::int64_t row);
  void store_rows(std::int64_t block, const AttentionTask& task);
  void attend_rows(std::int64_t block, const AttentionTask& task, std::byte* scratch);
  template <typename Body>
  void for_rows(std::int64_t values_in_a_row, Body&& body);
  void locate(std::span<const Run> runs);

  float* row_of(AlignedBuffer& buffer, std::int64_t stride, std::int64_t row) {
    return buffer.as<float>().data() + row * stride;
  }

  const ModelParts& parts_;
  const kernels::KernelTable& table_;
  Workspace& work_;
  std::int64_t rows_ = 0;
  const float* floats_ = nullptr;  // what float_gemm reads
  std::int64_t floats_stride_ = 0;
  std::span<const Run> runs_;
  std::vector<std::int64_t> first_row_;  // of each run
  std::vector<std::int64_t> run_of_;     // of each row
  std::vector<AttentionTask> tasks_;
};

template <typename Body>
void Pass::for_rows(std::int64_t values_in_a_row, Body&& body) {
  const auto all = [&](std::size_t begin, std::size_t end, std::size_t thread) {
    for (std::size_t row = begin; row < end; ++row) body(static_cast<std::int64_t>(row), work_.scratch_of(thread));
  };
  const std::size_t grain = std::max<std::size_t>(1, rows_are_worth_a_thread / index(values_in_a_row));
  parallel_ranges(index(rows_), grain, Split::fine, all);
}

// Codes of every row for int_gemm, or float rows for float_gemm.
void Pass::prepare(const LinearInput& input, const Rows& rows) {
  const std::int64_t columns = input.plan.columns;
  const auto eps = static_cast<float>(parts_.spec.rms_norm_eps);
  float* const source = rows.gamma != nullptr ? work_.normed.as<float>().data() : rows.values;
  const std::int64_t stride = rows.gamma != nullptr ? work_.hidden_stride : rows.stride;
  floats_ = source;
  floats_stride_ = stride;
  const auto target = [&](std::int64_t row) {
    const std::int64_t at = row * input.plan.segments;
    return kernels::QuantizedRow{work_.codes.as<std::int8_t>().data() + row * work_.code_stride, work_.plane_stride,
                                 work_.scales.as<float>().data() + at, work_.zeros.as<std::int32_t>().data() + at,
                                 work_.sums.as<std::int32_t>().data() + at};
  };
  const auto quantize_one = [&](std::int64_t row, const AffineParams& shared) {
    if (input.plan.integer) {
      quantize_input(input, source + row * stride, shared, target(row), table_);
    } else {
      fake_quantize_input(input, {source + row * stride, index(columns)}, shared);
    }
  };
  for_rows(columns, [&](std::int64_t row, std::byte* scratch) {
    auto* floats = reinterpret_cast<float*>(scratch);
    if (rows.gamma != nullptr && input.fusible()) {
      table_.norm_quantize(rows.values + row * rows.stride, rows.gamma->data(), eps, input.spec, target(row), floats);
      return;
    }
    if (rows.gamma != nullptr) {
      table_.rms_norm(rows.values + row * rows.stride, rows.gamma->data(), eps, columns, source + row * stride);
    }
    if (rows.rotation != nullptr) table_.hadamard(source + row * stride, rows.rotation->kernel(), floats);
    if (!input.per_call()) quantize_one(row, {});
  });
  if (!input.per_call()) return;
  float least = source[0];
  float largest = source[0];
  for (std::int64_t row = 0; row < rows_; ++row) {
    float low = 0;
    float high = 0;
    table_.min_max(source + row * stride, columns, &low, &high);
    if (std::isnan(low)) least = largest = low;
    least = std::min(least, low);
    largest = std::max(largest, high);
  }
  const AffineParams shared = dynamic_params(input.format, input.parameters.clip, least, largest);
  for_rows(columns, [&](std::int64_t row, std::byte*) { quantize_one(row, shared); });
}

// The float rows in bf16, where the kernels can multiply those; else nullptr. A single row is not worth it: its product
// takes the time to read the weights anyway.
const std::uint16_t* Pass::round_rows(const LinearInput& input, const PackedLinear& weights) {
  const bool wanted = !weights.integer() && weights.floats().format == kernels::FloatFormat::bf16 && rows_ > 1 &&
                      parts_.options.bf16_products && table_.bf16_products;
  if (!wanted) return nullptr;
  auto* rounded = work_.rounded.as<std::uint16_t>().data();
  for_rows(input.plan.columns, [&](std::int64_t row, std::byte*) {
    table_.float_to_bf16(floats_ + row * floats_stride_, input.plan.columns, rounded + row * work_.code_stride);
  });
  return rounded;
}

void Pass::multiply(const LinearInput& input, std::span<const Product> products) {
  std::int64_t panels = 0;
  for (const Product& product : products) panels += product.weights->panels();
  const kernels::IntActivations codes{.codes = work_.codes.as<std::int8_t>().data(),
                                      .scale = work_.scales.as<float>().data(),
                                      .zero = input.spec.symmetric ? nullptr : work_.zeros.as<std::int32_t>().data(),
                                      .sum = work_.sums.as<std::int32_t>().data(),
                                      .rows = rows_,
                                      .row_stride = work_.code_stride,
                                      .plane_stride = work_.plane_stride,
                                      .planes = input.plan.planes};
  const std::uint16_t* const rounded = round_rows(input, *products[0].weights);
  const auto run = [&](std::size_t begin, std::size_t end, std::size_t thread) {
    std::int64_t before = 0;
    for (const Product& product : products) {
      const std::int64_t count = product.weights->panels();
      const std::int64_t first = std::max<std::int64_t>(0, static_cast<std::int64_t>(begin) - before);
      const std::int64_t last = std::min(count, static_cast<std::int64_t>(end) - before);
      before += count;
      if (first >= last) continue;
      if (product.weights->integer()) {
        const kernels::IntGemm gemm{product.weights->codes(),
                                    product.up != nullptr ? &product.up->codes() : nullptr,
                                    codes,
                                    product.out,
                                    product.out_stride,
                                    product.store};
        table_.int_gemm(gemm, first, last, work_.scratch_of(thread));
      } else {
        const kernels::FloatGemm gemm{product.weights->floats(),
                                      product.up != nullptr ? &product.up->floats() : nullptr,
                                      floats_,
                                      rows_,
                                      floats_stride_,
                                      rounded,
                                      work_.code_stride,
                                      product.out,
                                      product.out_stride,
                                      product.store};
        table_.float_gemm(gemm, first, last, work_.scratch_of(thread));
      }
    }
  };
  const std::int64_t work = rows_ * panels * kernels::panel_channels * input.plan.columns;
  const std::int64_t grain = work < product_is_worth_a_thread ? panels : rows_ <= 4 ? 1 : 4;
  parallel_ranges(index(panels), index(grain), rows_ <= 4 ? Split::even : Split::fine, run);
}

void Pass::locate(std::span<const Run> runs) {
  runs_ = runs;
  for (std::size_t run = 0; run < runs.size(); ++run) {
    first_row_.push_back(rows_);
    rows_ += static_cast<std::int64_t>(runs[run].tokens.size());
    run_of_.resize(index(rows_), static_cast<std::int64_t>(run));
  }
}

// RoPE and R3 for some KV heads of a row and the query heads that read them.
void Pass::rotate_row(std::int64_t row, std::int64_t first_kv_head, std::int64_t kv_heads, std::byte* scratch) {
  const ModelSpec& spec = parts_.spec;
  const std::int64_t run = run_of_[index(row)];
  const Sequence& sequence = *runs_[index(run)].sequence;
  const std::int64_t position = parts_.prefix() + sequence.length + row - first_row_[index(run)];
  const RopeChunk& chunk = *sequence.rope[index(position / RopeChunk::positions)];
  const std::int64_t at = position % RopeChunk::positions * (spec.head_dim / 2);
  const std::int64_t group = spec.head_count / spec.kv_head_count;
  const auto rotate = [&](float* heads, std::int64_t count) {
    table_.rope(heads, count, spec.head_dim, chunk.cos.data() + at, chunk.sin.data() + at);
    if (!parts_.r3) return;
    const kernels::Hadamard plan = parts_.r3->kernel();
    for (std::int64_t head = 0; head < count; ++head) {
      table_.hadamard(heads + head * spec.head_dim, plan, reinterpret_cast<float*>(scratch));
    }
  };
  rotate(row_of(work_.query, work_.query_stride, row) + first_kv_head * group * spec.head_dim, kv_heads * group);
  rotate(row_of(work_.key, work_.kv_stride, row) + first_kv_head * spec.head_dim, kv_heads);
}

void Pass::find_token_scales(const PackedBlock& block, std::int64_t row) {
  const auto params_of = [&](AlignedBuffer& buffer, const KvQuantizer& quantizer) {
    float low = 0;
    float high = 0;
    table_.min_max(row_of(buffer, work_.kv_stride, row), parts_.spec.kv_size(), &low, &high);
    return dynamic_params(parts_.kv.format, quantizer.parameters.clip, low, high);
  };
  work_.key_params[index(row)] = params_of(work_.key, block.key);
  work_.value_params[index(row)] = params_of(work_.value, block.value);
}

void Pass::store_rows(std::int64_t block, const AttentionTask& task) {
  const PackedBlock& of = parts_.blocks[index(block)];
  Sequence& sequence = *runs_[index(task.run)].sequence;
  const std::int64_t offset = task.head * parts_.spec.head_dim;
  for (std::int64_t i = task.first; i < task.first + task.count; ++i) {
    const std::int64_t row = first_row_[index(task.run)] + i;
    const std::int64_t position = sequence.length + i;
    sequence.cache.store(KvCache::Part::key, block, task.head, position,
                         row_of(work_.key, work_.kv_stride, row) + offset, of.key, work_.key_params[index(row)],
                         table_);
    sequence.cache.store(KvCache::Part::value, block, task.head, position,
                         row_of(work_.value, work_.kv_stride, row) + offset, of.value, work_.value_params[index(row)],
                         table_);
  }
}

void Pass::attend_rows(std::int64_t block, const AttentionTask& task, std::byte* scratch) {
  const ModelSpec& spec = parts_.spec;
  const Sequence& sequence = *runs_[index(task.run)].sequence;
  const std::int64_t row = first_row_[index(task.run)] + task.first;
  const std::int64_t group = spec.head_count / spec.kv_head_count;
  const std::int64_t offset = task.head * group * spec.head_dim;
  const kernels::Attention attention{.layout = parts_.kv.layout,
                                     .head = parts_.head(sequence.cache, block, task.head),
                                     .prefix = parts_.prefix(),
                                     .query = row_of(work_.query, work_.query_stride, row) + offset,
                                     .query_stride = work_.query_stride,
                                     .out = row_of(work_.attended, work_.query_stride, row) + offset,
                                     .out_stride = work_.query_stride,
                                     .queries = task.count,
                                     .group_heads = group,
                                     .first = sequence.length + task.first,
                                     .window = parts_.blocks[index(block)].window,
                                     .scale = static_cast<float>(1.0 / std::sqrt(static_cast<double>(spec.head_dim)))};
  table_.attend(attention, scratch);
}

void Pass::attention(std::int64_t block) {
  const PackedBlock& of = parts_.blocks[index(block)];
  const std::int64_t kv_heads = parts_.spec.kv_head_count;
  const bool one_each = rows_ == static_cast<std::int64_t>(runs_.size());
  const bool whole_rows = parts_.kv.per_token() || !one_each;
  if (whole_rows) {
    for_rows(parts_.spec.query_size() + parts_.spec.kv_size(), [&](std::int64_t row, std::byte* scratch) {
      rotate_row(row, 0, kv_heads, scratch);
      if (parts_.kv.per_token()) find_token_scales(of, row);
    });
  }
  const auto cut = [&](bool aligned, std::int64_t step) {
    tasks_.clear();
    for (std::size_t run = 0; run < runs_.size(); ++run) {
      const auto count = static_cast<std::int64_t>(runs_[run].tokens.size());
      const std::int64_t start = aligned ? runs_[run].sequence->length % step : 0;
      for (std::int64_t head = 0; head < kv_heads; ++head) {
        for (std::int64_t first = 0; first < count;) {
          const std::int64_t size = std::min(first == 0 ? step - start : step, count - first);
          tasks_.push_back({static_cast<std::int64_t>(run), head, first, size});
          first += size;
        }
      }
    }
  };
  if (one_each) {
    cut(false, 1);
    const auto all = [&](std::size_t begin, std::size_t end, std::size_t thread) {
      for (std::size_t i = begin; i < end; ++i) {
        const AttentionTask& task = tasks_[i];
        if (!whole_rows) rotate_row(first_row_[index(task.run)], task.head, 1, work_.scratch_of(thread));
        store_rows(block, task);
        attend_rows(block, task, work_.scratch_of(thread));
      }
    };
    parallel_ranges(tasks_.size(), 1, tasks_.size() > 16 ? Split::fine : Split::even, all);
    return;
  }
  cut(true, 32);
  const auto store = [&](std::size_t begin, std::size_t end, std::size_t) {
    for (std::size_t i = begin; i < end; ++i) store_rows(block, tasks_[i]);
  };
  parallel_ranges(tasks_.size(), 1, Split::fine, store);
  cut(false, attention_tile);
  const auto attend = [&](std::size_t begin, std::size_t end, std::size_t thread) {
    for (std::size_t i = begin; i < end; ++i) attend_rows(block, tasks_[i], work_.scratch_of(thread));
  };
  parallel_ranges(tasks_.size(), 1, Split::fine, attend);
}

void Pass::layers(std::span<const Run> runs, const Probe& probe) {
  locate(runs);
  work_.cover(parts_, rows_, thread_count());
  for_rows(parts_.spec.hidden_size, [&](std::int64_t row, std::byte*) {
    const Run& run = runs[index(run_of_[index(row)])];
    const std::int32_t token = run.tokens[index(row - first_row_[index(run_of_[index(row)])])];
    parts_.embed(token, {row_of(work_.residual, work_.hidden_stride, row), index(parts_.spec.hidden_size)});
  });
  const auto show = [&](Stage stage, std::int64_t block) {
    if (probe) probe(stage, block);
  };
  float* residual = work_.residual.as<float>().data();
  const auto plain = [&](const PackedLinear& linear, AlignedBuffer& out, std::int64_t stride) {
    return Product{&linear, nullptr, out.as<float>().data(), stride, Store::overwrite};
  };
  for (std::int64_t i = 0; i < parts_.spec.block_count; ++i) {
    const PackedBlock& block = parts_.blocks[index(i)];
    show(Stage::block_input, i);
    prepare(block.qkv_input, {residual, work_.hidden_stride, &block.input_norm, nullptr});
    show(Stage::qkv_input, i);
    multiply(block.qkv_input, std::array{plain(block[LinearId::q], work_.query, work_.query_stride),
                                         plain(block[LinearId::k], work_.key, work_.kv_stride),
                                         plain(block[LinearId::v], work_.value, work_.kv_stride)});
    show(Stage::qkv, i);
    attention(i);
    show(Stage::attended, i);
    prepare(block.o_input, {work_.attended.as<float>().data(), work_.query_stride, nullptr, nullptr});
    show(Stage::o_input, i);
    multiply(block.o_input,
             std::array{Product{&block[LinearId::o], nullptr, residual, work_.hidden_stride, Store::add}});
    show(Stage::attention_out, i);
    prepare(block.gate_up_input, {residual, work_.hidden_stride, &block.post_attention_norm, nullptr});
    show(Stage::gate_up_input, i);
    multiply(block.gate_up_input,
             std::array{Product{&block[LinearId::gate], &block[LinearId::up], work_.product.as<float>().data(),
                                work_.ffn_stride, Store::overwrite}});
    show(Stage::product, i);
    prepare(block.down_input,
            {work_.product.as<float>().data(), work_.ffn_stride, nullptr, parts_.r4 ? &*parts_.r4 : nullptr});
    show(Stage::down_input, i);
    multiply(block.down_input,
             std::array{Product{&block[LinearId::down], nullptr, residual, work_.hidden_stride, Store::add}});
    show(Stage::block_output, i);
  }
}

void Pass::logits(const float* residual, std::int64_t stride, std::int64_t rows, float* out) {
  rows_ = rows;
  work_.cover(parts_, rows, thread_count());
  // prepare() writes to rows only where there is no norm.
  prepare(parts_.head_input, {const_cast<float*>(residual), stride, &parts_.final_norm, nullptr});
  multiply(parts_.head_input,
           std::array{Product{&parts_.lm_head, nullptr, out, parts_.spec.vocab_size, Store::overwrite}});
}

}  // namespace

Sequence::Sequence(const ModelParts& parts, std::int64_t sequence_capacity)
    : cache(parts.kv, parts.spec.block_count, sequence_capacity), capacity(sequence_capacity) {}

void Sequence::cover(const ModelParts& parts, std::int64_t tokens) {
  const std::int64_t last = (parts.prefix() + tokens + RopeChunk::positions - 1) / RopeChunk::positions;
  while (static_cast<std::int64_t>(rope.size()) < last) {
    rope.push_back(parts.rope.chunk(static_cast<std::int64_t>(rope.size())));
  }
}

void forward(const ModelParts& parts, Workspace& workspace, std::span<const Run> runs, const Probe& probe) {
  Pass(parts, workspace).layers(runs, probe);
}

void project_logits(const ModelParts& parts, Workspace& workspace, const float* residual, std::int64_t residual_stride,
                    std::int64_t rows, float* out) {
  Pass(parts, workspace).logits(residual, residual_stride, rows, out);
}

}  // namespace pq::runtime
