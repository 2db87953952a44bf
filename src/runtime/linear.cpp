#include "runtime/linear.h"

#include <algorithm>
#include <cmath>

#include "base/index.h"
#include "base/parallel_for.h"
#include "runtime/dynamic_params.h"

namespace pq::runtime {
namespace {

constexpr std::int64_t product_is_worth_a_thread = 1 << 16;  // multiplications

bool rounds(const LinearInput& input, std::int64_t rows, const kernels::KernelTable& table) {
  if (input.bf16_planes == kernels::float_planes) return rows >= table.planes_rows;
  // A single row is not worth it: its product takes the time to read the weights anyway.
  return input.bf16_planes == 1 && rows > 1;
}

}  // namespace

LinearBuffers::LinearBuffers(std::int64_t rows, std::int64_t norm_columns, std::int64_t columns, std::int64_t segments,
                             int bf16_planes)
    : code_stride(round_up(columns, 64)),
      plane_stride(rows * code_stride),
      normed(rows, norm_columns),
      codes(index(2 * plane_stride)),
      scales(AlignedBuffer::of<float>(index(rows * segments))),
      zeros(AlignedBuffer::of<std::int32_t>(index(rows * segments))),
      sums(AlignedBuffer::of<std::int32_t>(index(rows * segments))),
      rounded(AlignedBuffer::of<std::uint16_t>(
          index(bf16_planes * round_up(rows, kernels::plane_tile_rows) * code_stride))) {}

kernels::QuantizedRow LinearUnit::target(const LinearInput& input, std::int64_t row) const {
  const std::int64_t at = row * input.plan.segments;
  return {buffers_.codes.as<std::int8_t>().data() + row * buffers_.code_stride, buffers_.plane_stride,
          buffers_.scales.as<float>().data() + at, buffers_.zeros.as<std::int32_t>().data() + at,
          buffers_.sums.as<std::int32_t>().data() + at};
}

void LinearUnit::quantize(const LinearInput& input, const Rows& rows, std::int64_t row,
                          const AffineParams& shared) const {
  if (input.plan.integer) {
    quantize_input(input, rows.row(row), shared, target(input, row), table_);
    if (!input.floats) return;
  }
  const std::int64_t columns = input.plan.columns;
  fake_quantize_input(input, {rows.row(row), index(columns)}, shared);
  if (!rounds(input, rows.count, table_)) return;
  std::uint16_t* rounded = buffers_.rounded.as<std::uint16_t>().data();
  if (input.bf16_planes == 1) {
    table_.float_to_bf16(rows.row(row), columns, rounded + row * buffers_.code_stride);
  } else {
    table_.split_bf16(rows.row(row), columns, rounded + kernels::plane_tile_offset(row, columns));
  }
}

AffineParams LinearUnit::shared_params(const LinearInput& input, const Rows& rows) const {
  float least = rows.values[0];
  float largest = rows.values[0];
  for (std::int64_t row = 0; row < rows.count; ++row) {
    float low = 0;
    float high = 0;
    table_.min_max(rows.row(row), input.plan.columns, &low, &high);
    if (std::isnan(low)) least = largest = low;
    least = std::min(least, low);
    largest = std::max(largest, high);
  }
  return dynamic_params(input.format, input.parameters.clip, least, largest);
}

LinearRows LinearUnit::ready(const LinearInput& input, const Rows& rows) const {
  return {.columns = input.plan.columns,
          .codes = {.codes = buffers_.codes.as<std::int8_t>().data(),
                    .scale = buffers_.scales.as<float>().data(),
                    .zero = input.spec.symmetric ? nullptr : buffers_.zeros.as<std::int32_t>().data(),
                    .sum = buffers_.sums.as<std::int32_t>().data(),
                    .rows = rows.count,
                    .row_stride = buffers_.code_stride,
                    .plane_stride = buffers_.plane_stride,
                    .planes = input.plan.planes},
          .floats = rows,
          .rounded = rounds(input, rows.count, table_) ? buffers_.rounded.as<std::uint16_t>().data() : nullptr,
          .rounded_stride = buffers_.code_stride,
          .bf16_planes = input.bf16_planes};
}

// `first(row, scratch)` writes the floats of a row; they are quantized while they are in the cache.
template <typename First>
LinearRows LinearUnit::prepare_after(const LinearInput& input, const Rows& rows, const First& first) const {
  const bool at_once = !input.per_call();
  for_rows(rows.count, input.plan.columns, scratch_, [&](std::int64_t row, std::byte* scratch) {
    first(row, scratch);
    input.transform.apply(rows.row(row), 1, table_, scratch);
    if (at_once) quantize(input, rows, row, {});
  });
  if (!at_once) {
    const AffineParams shared = shared_params(input, rows);
    for_rows(rows.count, input.plan.columns, scratch_,
             [&](std::int64_t row, std::byte*) { quantize(input, rows, row, shared); });
  }
  return ready(input, rows);
}

LinearRows LinearUnit::prepare(const LinearInput& input, const ConstRows& rows, const Norm& norm) const {
  const auto eps = static_cast<float>(norm.eps);
  const Rows normed = buffers_.normed.rows(rows.count);
  if (input.fusible()) {
    for_rows(rows.count, input.plan.columns, scratch_, [&](std::int64_t row, std::byte* scratch) {
      table_.norm_quantize(rows.row(row), norm.gamma.data(), eps, input.spec, target(input, row),
                           reinterpret_cast<float*>(scratch));
    });
    return ready(input, normed);
  }
  return prepare_after(input, normed, [&](std::int64_t row, std::byte*) {
    table_.rms_norm(rows.row(row), norm.gamma.data(), eps, input.plan.columns, normed.row(row));
  });
}

LinearRows LinearUnit::prepare(const LinearInput& input, const Rows& rows) const {
  return prepare_after(input, rows, [](std::int64_t, std::byte*) {});
}

namespace {

kernels::FloatGemm float_product(const kernels::FloatWeights& weights, const kernels::FloatWeights* up,
                                 const LinearRows& rows, const LinearProduct& product) {
  return {weights,
          up,
          rows.floats.values,
          rows.floats.count,
          rows.floats.stride,
          rows.rounded,
          rows.rounded_stride,
          product.out.values,
          product.out.stride,
          product.store,
          product.gate,
          rows.bf16_planes};
}

kernels::IntGemm int_product(const kernels::IntWeights& weights, const kernels::IntWeights* up, const LinearRows& rows,
                             const LinearProduct& product) {
  return {weights, up, rows.codes, product.out.values, product.out.stride, product.store, product.gate};
}

}  // namespace

void LinearUnit::multiply_panels(const LinearRows& rows, const PackedLinear& weights, std::int64_t first,
                                 std::int64_t last, const Rows& out, std::size_t thread) const {
  const LinearProduct product{&weights, nullptr, out, kernels::Store::overwrite};
  const std::int64_t panels = last - first;
  if (weights.integer()) {
    table_.int_gemm(int_product(weights.codes(first, last), nullptr, rows, product), 0, panels, scratch_.of(thread));
  } else {
    table_.float_gemm(float_product(weights.floats(first, last), nullptr, rows, product), 0, panels,
                      scratch_.of(thread));
  }
}

void LinearUnit::multiply(const LinearRows& rows, std::span<const LinearProduct> products) const {
  std::int64_t panels = 0;
  for (const LinearProduct& product : products) panels += product.weights->panels();
  const auto run = [&](std::size_t begin, std::size_t end, std::size_t thread) {
    std::int64_t before = 0;
    for (const LinearProduct& product : products) {
      const std::int64_t count = product.weights->panels();
      const std::int64_t first = std::max<std::int64_t>(0, static_cast<std::int64_t>(begin) - before);
      const std::int64_t last = std::min(count, static_cast<std::int64_t>(end) - before);
      before += count;
      if (first >= last) continue;
      const PackedLinear* up = product.up;
      if (product.weights->integer()) {
        const auto* up_codes = up != nullptr ? &up->codes() : nullptr;
        table_.int_gemm(int_product(product.weights->codes(), up_codes, rows, product), first, last,
                        scratch_.of(thread));
      } else {
        const auto* up_floats = up != nullptr ? &up->floats() : nullptr;
        table_.float_gemm(float_product(product.weights->floats(), up_floats, rows, product), first, last,
                          scratch_.of(thread));
      }
    }
  };
  const bool few = rows.codes.rows <= 4;
  const std::int64_t work = rows.codes.rows * panels * kernels::panel_channels * rows.columns;
  const std::int64_t grain = work < product_is_worth_a_thread ? panels : few ? 1 : 4;
  parallel_ranges(index(panels), index(grain), few ? Split::even : Split::fine, run);
}

}  // namespace pq::runtime
