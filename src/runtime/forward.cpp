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

void run_block(const ModelParts& parts, std::int64_t index_of_block, const Batch& batch, Workspace& work,
               const Probe& probe) {
  const auto show = [&](Stage stage) {
    if (probe) probe(stage, index_of_block);
  };
  const PackedBlock& block = parts.blocks[index(index_of_block)];
  const LinearUnit linear(parts.table, work.linear, work.scratch);
  const double eps = parts.spec.rms_norm_eps;
  const std::int64_t count = batch.rows();
  const Rows residual = work.residual.rows(count);
  const Rows query = work.query.rows(count);
  const Rows key = work.key.rows(count);
  const Rows value = work.value.rows(count);
  const Rows attended = work.attended.rows(count);
  const Rows product = work.product.rows(count);

  show(Stage::block_input);
  const LinearRows qkv_input =
      linear.prepare(block.qkv_input, residual, Norm{block.norms[NormId::attention_input], eps});
  show(Stage::qkv_input);
  linear.multiply(qkv_input, std::array{LinearProduct{&block[LinearId::q], nullptr, query, Store::overwrite},
                                        LinearProduct{&block[LinearId::k], nullptr, key, Store::overwrite},
                                        LinearProduct{&block[LinearId::v], nullptr, value, Store::overwrite}});
  show(Stage::qkv);
  attend(parts, index_of_block, batch, {query, key, value, attended}, work.scratch);
  show(Stage::attended);
  const LinearRows o_input = linear.prepare(block.o_input, attended);
  show(Stage::o_input);
  linear.multiply(o_input, std::array{LinearProduct{&block[LinearId::o], nullptr, residual, Store::add}});
  show(Stage::attention_out);
  const LinearRows gate_up_input =
      linear.prepare(block.gate_up_input, residual, Norm{block.norms[NormId::mlp_input], eps});
  show(Stage::gate_up_input);
  linear.multiply(gate_up_input,
                  std::array{LinearProduct{&block[LinearId::gate], &block[LinearId::up], product, Store::overwrite}});
  show(Stage::product);
  const LinearRows down_input = linear.prepare(block.down_input, product);
  show(Stage::down_input);
  linear.multiply(down_input, std::array{LinearProduct{&block[LinearId::down], nullptr, residual, Store::add}});
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

void project_logits(const ModelParts& parts, Workspace& workspace, const ConstRows& residual, float* out) {
  workspace.cover(parts.workspace_shape, residual.count, thread_count());
  const LinearUnit linear(parts.table, workspace.linear, workspace.scratch);
  const LinearRows rows = linear.prepare(parts.head_input, residual, Norm{parts.final_norm, parts.spec.rms_norm_eps});
  const Rows logits{out, parts.spec.vocab_size, residual.count};
  linear.multiply(rows, std::array{LinearProduct{&parts.lm_head, nullptr, logits, Store::overwrite}});
}

}  // namespace pq::runtime
