#include "pipeline/rounded_block.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "base/index.h"
#include "base/parallel_for.h"
#include "kernels/select.h"
#include "nn/transformer.h"
#include "runtime/aligned_buffer.h"
#include "runtime/packed_linear.h"
#include "runtime/scratch.h"

namespace pq::quant {
namespace {

constexpr std::int64_t rows_together = 1024;  // rounded rows that stay in the caches while all panels pass by

/// Where the layers of a block work, one at a time.
struct Workplace {
  runtime::AlignedBuffer rows;  ///< bf16 [rows_together][columns]
  runtime::Scratch scratch;
};

class RoundedProduct {
 public:
  RoundedProduct(runtime::PackedLinear packed, const kernels::KernelTable& table, std::shared_ptr<Workplace> workplace)
      : packed_(std::make_shared<runtime::PackedLinear>(std::move(packed))),
        table_(&table),
        workplace_(std::move(workplace)) {}

  at::Tensor operator()(const at::Tensor& x) const {
    const std::int64_t columns = packed_->floats().columns;
    const std::int64_t channels = packed_->channels();
    const at::Tensor rows = x.reshape({-1, columns}).contiguous();
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = channels;
    at::Tensor out = at::empty({rows.size(0), channels}, rows.options());
    for (std::int64_t first = 0; first < rows.size(0); first += rows_together) {
      const std::int64_t count = std::min(rows_together, rows.size(0) - first);
      multiply(rows.data_ptr<float>() + first * columns, count, out.data_ptr<float>() + first * channels);
    }
    return out.view(shape);
  }

 private:
  void multiply(const float* rows, std::int64_t count, float* out) const {
    const kernels::FloatWeights& weights = packed_->floats();
    std::uint16_t* rounded = workplace_->rows.as<std::uint16_t>().data();
    parallel_for(index(count), 16, [&](std::size_t begin, std::size_t end) {
      const auto at = static_cast<std::int64_t>(begin) * weights.columns;
      const auto values = static_cast<std::int64_t>(end - begin) * weights.columns;
      table_->float_to_bf16(rows + at, values, rounded + at);
    });
    const kernels::FloatGemm gemm{.weights = weights,
                                  .up = nullptr,
                                  .activations = rows,
                                  .rows = count,
                                  .row_stride = weights.columns,
                                  .rounded = rounded,
                                  .rounded_stride = weights.columns,
                                  .out = out,
                                  .out_stride = weights.channels,
                                  .store = kernels::Store::overwrite};
    parallel_ranges(index(weights.panels), 4, Split::fine, [&](std::size_t begin, std::size_t end, std::size_t thread) {
      table_->float_gemm(gemm, static_cast<std::int64_t>(begin), static_cast<std::int64_t>(end),
                         workplace_->scratch.of(thread));
    });
  }

  std::shared_ptr<runtime::PackedLinear> packed_;
  const kernels::KernelTable* table_;
  std::shared_ptr<Workplace> workplace_;
};

bool is_rounded(const io::LinearView& linear) {
  return linear.weight.dtype == io::DType::bf16 && linear.weight.shape.back() % 2 == 0;
}

}  // namespace

bool rounds_products(const io::HfCheckpoint& checkpoint, const at::TensorOptions& options) {
  return options.device().is_cpu() && options.dtype() == at::kFloat && kernels::select_kernels().bf16_products &&
         is_rounded(checkpoint.linear(0, LinearId::down));
}

nn::Block load_rounded_block(const io::HfCheckpoint& checkpoint, std::int64_t index, const at::TensorOptions& options) {
  nn::Block block = nn::load_block(checkpoint, index, options);
  if (!rounds_products(checkpoint, options)) return block;
  const kernels::KernelTable& table = kernels::select_kernels();
  const auto workplace = std::make_shared<Workplace>();
  std::int64_t widest = 0;
  for (const LinearId id : all_linears) {
    const io::LinearView linear = checkpoint.linear(index, id);
    if (!is_rounded(linear)) continue;
    std::vector<float> bias;
    if (block[id].bias.defined()) {
      const float* values = block[id].bias.data_ptr<float>();
      bias.assign(values, values + block[id].bias.numel());
    }
    runtime::PackedLinear packed = runtime::PackedLinear::pack_floats(linear.weight, bias);
    widest = std::max(widest, packed.floats().columns);
    block[id] = {{}, {}, RoundedProduct(std::move(packed), table, workplace)};
  }
  workplace->rows = runtime::AlignedBuffer::of<std::uint16_t>(pq::index(rows_together * widest));
  workplace->scratch.cover(kernels::gemm_scratch_bytes(widest), thread_count());
  return block;
}

}  // namespace pq::quant
