#include "pipeline/rounded_block.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/index.h"
#include "base/parallel_for.h"
#include "kernels/select.h"
#include "nn/transformer.h"
#include "runtime/linear.h"
#include "runtime/packed_linear.h"
#include "runtime/scratch.h"

namespace pq::quant {
namespace {

constexpr std::int64_t rows_together = 1024;  // rounded rows that stay in the caches while all panels pass by

/// Where the layers of a block work, one at a time.
struct Workplace {
  const kernels::KernelTable& table;
  runtime::LinearBuffers buffers;
  runtime::Scratch scratch;
};

class RoundedProduct {
 public:
  RoundedProduct(runtime::PackedLinear packed, std::shared_ptr<Workplace> workplace)
      : packed_(std::make_shared<runtime::PackedLinear>(std::move(packed))), workplace_(std::move(workplace)) {}

  at::Tensor operator()(const at::Tensor& x) const {
    const std::int64_t columns = packed_->floats().columns;
    const std::int64_t channels = packed_->channels();
    runtime::LinearInput input = runtime::make_linear_input({}, {}, {.columns = columns});
    input.bf16_planes = 1;
    const runtime::LinearUnit unit(workplace_->table, workplace_->buffers, workplace_->scratch);
    const at::Tensor rows = x.reshape({-1, columns}).contiguous();
    std::vector<std::int64_t> shape = x.sizes().vec();
    shape.back() = channels;
    at::Tensor out = at::empty({rows.size(0), channels}, rows.options());
    for (std::int64_t first = 0; first < rows.size(0); first += rows_together) {
      const std::int64_t count = std::min(rows_together, rows.size(0) - first);
      const auto ready = unit.prepare(input, runtime::Rows{rows.data_ptr<float>() + first * columns, columns, count});
      const runtime::Rows results{out.data_ptr<float>() + first * channels, channels, count};
      const runtime::LinearProduct product{packed_.get(), nullptr, results, kernels::Store::overwrite};
      unit.multiply(ready, {&product, 1});
    }
    return out.view(shape);
  }

 private:
  std::shared_ptr<runtime::PackedLinear> packed_;
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
  const auto workplace = std::make_shared<Workplace>(Workplace{kernels::select_kernels(), {}, {}});
  std::int64_t widest = 0;
  for (const LinearId id : all_linears) {
    const io::LinearView linear = checkpoint.linear(index, id);
    if (!is_rounded(linear)) continue;
    std::span<const float> bias;
    if (const at::Tensor& values = block[id].bias; values.defined()) {
      bias = {values.data_ptr<float>(), pq::index(values.numel())};
    }
    runtime::PackedLinear packed = runtime::PackedLinear::pack_floats(linear.weight, bias);
    widest = std::max(widest, packed.floats().columns);
    block[id] = {{}, {}, RoundedProduct(std::move(packed), workplace)};
  }
  workplace->buffers = runtime::LinearBuffers(rows_together, 0, widest, 1, 1);
  workplace->scratch.cover(kernels::gemm_scratch_bytes(widest), thread_count());
  return block;
}

}  // namespace pq::quant
