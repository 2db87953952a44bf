#include "runtime/forward.h"

#include <algorithm>
#include <array>
#include <vector>

#include "base/index.h"
#include "base/parallel_for.h"
#include "runtime/attention.h"
#include "runtime/linear.h"

namespace pq::runtime {
namespace {

using kernels::Store;

void embed(const ModelParts& parts, const Batch& batch, const Rows& residual, Scratch& scratch) {
  const std::int64_t hidden = parts.spec.hidden_size;
  for_rows(batch.rows(), hidden, scratch, [&](std::int64_t row, std::byte*) {
    parts.embed(batch.token(row), {residual.row(row), index(hidden)});
  });
}

/// o_proj or down_proj of `input` into the residual stream: straight, or by way of `branch` where something is done to
/// it on the way.
void add_branch(const ModelParts& parts, const LinearUnit& linear, const LinearRows& input, const PackedLinear& weights,
                const std::vector<float>& norm, const Rows& residual, Workspace& work) {
  const double scale = parts.spec.residual_scale;
  if (norm.empty() && scale == 1) {
    linear.multiply(input, std::array{LinearProduct{&weights, nullptr, residual, Store::add}});
    return;
  }
  const Rows branch = work.branch.rows(residual.count);
  linear.multiply(input, std::array{LinearProduct{&weights, nullptr, branch, Store::overwrite}});
  const std::int64_t hidden = parts.spec.hidden_size;
  for_rows(residual.count, hidden, work.scratch, [&](std::int64_t row, std::byte* memory) {
    const float* from = branch.row(row);
    if (!norm.empty()) {
      auto* normed = reinterpret_cast<float*>(memory);
      parts.table.rms_norm(from, norm.data(), static_cast<float>(parts.spec.rms_norm_eps), hidden, normed);
      from = normed;
    }
    float* to = residual.row(row);
    for (std::int64_t i = 0; i < hidden; ++i) to[i] += static_cast<float>(scale) * from[i];
  });
}

/// The residual stream as the layers of a site read it: through the norm in front of them, where there is one.
LinearRows read_residual(const ModelParts& parts, const LinearUnit& linear, const LinearInput& input,
                         const std::vector<float>& norm, const Rows& residual, Workspace& work) {
  if (!norm.empty()) return linear.prepare(input, residual, Norm{norm, parts.spec.rms_norm_eps});
  const Rows copy = work.branch.rows(residual.count);
  for (std::int64_t row = 0; row < residual.count; ++row) {
    std::copy_n(residual.row(row), parts.spec.hidden_size, copy.row(row));
  }
  return linear.prepare(input, copy);
}

void run_block(const ModelParts& parts, std::int64_t index_of_block, const Batch& batch, Workspace& work,
               const Probe& probe) {
  const auto show = [&](Stage stage) {
    if (probe) probe(stage, index_of_block);
  };
  const PackedBlock& block = parts.blocks[index(index_of_block)];
  const LinearUnit linear(parts.table, work.linear, work.scratch);
  const kernels::Gate gate = parts.spec.activation == Activation::silu ? kernels::Gate::silu : kernels::Gate::gelu_tanh;
  const std::int64_t count = batch.rows();
  const Rows residual = work.residual.rows(count);
  const Rows query = work.query.rows(count);
  const Rows key = work.key.rows(count);
  const Rows value = work.value.rows(count);
  const Rows attended = work.attended.rows(count);
  const Rows product = work.product.rows(count);

  show(Stage::block_input);
  const LinearRows qkv_input =
      read_residual(parts, linear, block.qkv_input, block.norms[NormId::attention_input], residual, work);
  show(Stage::qkv_input);
  linear.multiply(qkv_input, std::array{LinearProduct{&block[LinearId::q], nullptr, query, Store::overwrite},
                                        LinearProduct{&block[LinearId::k], nullptr, key, Store::overwrite},
                                        LinearProduct{&block[LinearId::v], nullptr, value, Store::overwrite}});
  show(Stage::qkv);
  attend(parts, index_of_block, batch, {query, key, value, attended}, work.scratch);
  show(Stage::attended);
  const LinearRows o_input = linear.prepare(block.o_input, attended);
  show(Stage::o_input);
  add_branch(parts, linear, o_input, block[LinearId::o], block.norms[NormId::attention_output], residual, work);
  show(Stage::attention_out);
  const LinearRows gate_up_input =
      read_residual(parts, linear, block.gate_up_input, block.norms[NormId::mlp_input], residual, work);
  show(Stage::gate_up_input);
  linear.multiply(gate_up_input, std::array{LinearProduct{&block[LinearId::gate], &block[LinearId::up], product,
                                                          Store::overwrite, gate}});
  show(Stage::product);
  const LinearRows down_input = linear.prepare(block.down_input, product);
  show(Stage::down_input);
  add_branch(parts, linear, down_input, block[LinearId::down], block.norms[NormId::mlp_output], residual, work);
  show(Stage::block_output);
}

}  // namespace

void forward(const ModelParts& parts, Workspace& workspace, std::span<const Run> runs, const Probe& probe) {
  const Batch batch(runs);
  workspace.cover(parts.workspace_shape, batch.rows(), thread_count());
  embed(parts, batch, workspace.residual.rows(batch.rows()), workspace.scratch);
  for (std::int64_t i = 0; i < parts.spec.block_count; ++i) run_block(parts, i, batch, workspace, probe);
}

void forward_all(const ModelParts& parts, Workspace& workspace, std::span<const Run> runs,
                 const std::function<void(std::int64_t first, const ConstRows& residual)>& take) {
  std::vector<std::int64_t> lengths;
  for (const Run& run : runs) lengths.push_back(run.sequence->length);
  try {
    std::vector<Run> pass;
    std::int64_t first = 0;
    std::int64_t rows = 0;
    const auto finish_pass = [&] {
      forward(parts, workspace, pass);
      for (const Run& run : pass) run.sequence->length += static_cast<std::int64_t>(run.tokens.size());
      take(first, workspace.residual.rows(rows));
      pass.clear();
      first += rows;
      rows = 0;
    };
    for (const Run& run : runs) {
      for (std::span<const std::int32_t> left = run.tokens; !left.empty();) {
        const std::size_t count = std::min(left.size(), index(most_rows - rows));
        pass.push_back({run.sequence, left.first(count)});
        left = left.subspan(count);
        rows += static_cast<std::int64_t>(count);
        if (rows == most_rows) finish_pass();
      }
    }
    if (rows > 0) finish_pass();
  } catch (...) {
    for (std::size_t i = 0; i < runs.size(); ++i) runs[i].sequence->length = lengths[i];
    throw;
  }
}

namespace {

/// The rows as lm_head reads them.
LinearRows head_rows(const ModelParts& parts, const LinearUnit& linear, const ConstRows& residual) {
  return linear.prepare(parts.head_input, residual, Norm{parts.final_norm, parts.spec.rms_norm_eps});
}

void scale_logits(const ModelParts& parts, float* logits, std::int64_t count) {
  const auto scale = static_cast<float>(parts.spec.logit_scale);
  if (scale == 1) return;
  for (std::int64_t i = 0; i < count; ++i) logits[i] *= scale;
}

}  // namespace

void project_logits(const ModelParts& parts, Workspace& workspace, const ConstRows& residual, float* out) {
  workspace.cover(parts.workspace_shape, residual.count, thread_count());
  const LinearUnit linear(parts.table, workspace.linear, workspace.scratch);
  const Rows logits{out, parts.spec.vocab_size, residual.count};
  linear.multiply(head_rows(parts, linear, residual),
                  std::array{LinearProduct{&parts.lm_head, nullptr, logits, Store::overwrite}});
  if (parts.spec.logit_scale == 1) return;
  for_rows(logits.count, parts.spec.vocab_size, workspace.scratch,
           [&](std::int64_t row, std::byte*) { scale_logits(parts, logits.row(row), parts.spec.vocab_size); });
}

void project_tiles(const ModelParts& parts, Workspace& workspace, const ConstRows& residual,
                   const std::function<void(const LogitTile&)>& visit) {
  constexpr std::int64_t ids = LanguageModel::tile_ids;
  constexpr std::int64_t panels = ids / kernels::panel_channels;
  workspace.cover(parts.workspace_shape, residual.count, thread_count());
  const LinearUnit linear(parts.table, workspace.linear, workspace.scratch);
  const LinearRows rows = head_rows(parts, linear, residual);
  std::vector<AlignedBuffer> tiles(index(thread_count()));
  const std::int64_t count = (parts.lm_head.panels() + panels - 1) / panels;
  parallel_ranges(index(count), 1, Split::fine, [&](std::size_t begin, std::size_t end, std::size_t thread) {
    AlignedBuffer& memory = tiles[thread];
    if (memory.size() == 0) memory = AlignedBuffer::of<float>(index(residual.count * ids));
    float* values = memory.as<float>().data();
    for (auto tile = static_cast<std::int64_t>(begin); tile < static_cast<std::int64_t>(end); ++tile) {
      const std::int64_t last = std::min(parts.lm_head.panels(), (tile + 1) * panels);
      linear.multiply_panels(rows, parts.lm_head, tile * panels, last, {values, ids, residual.count}, thread);
      scale_logits(parts, values, residual.count * ids);
      const std::int64_t first_id = tile * ids;
      visit({0, residual.count, first_id, std::min(ids, parts.spec.vocab_size - first_id), values, ids});
    }
  });
}

}  // namespace pq::runtime
