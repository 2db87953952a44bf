#pragma once

#include <cstdint>
#include <span>

#include "kernels/kernels.h"
#include "runtime/aligned_buffer.h"
#include "runtime/linear_input.h"
#include "runtime/packed_linear.h"
#include "runtime/rows.h"
#include "runtime/scratch.h"

namespace pq::runtime {

/// Memory in which the rows that linear layers read are made ready.
struct LinearBuffers {
  LinearBuffers() = default;
  /// For so many rows: what norms give [norm_columns], inputs of layers [columns] in up to `segments` segments and as
  /// many bf16 planes. Throws SystemError when there is not that much memory.
  LinearBuffers(std::int64_t rows, std::int64_t norm_columns, std::int64_t columns, std::int64_t segments,
                int bf16_planes);

  std::int64_t code_stride = 0;   ///< bytes
  std::int64_t plane_stride = 0;  ///< bytes
  RowBuffer normed;               ///< [rows, norm_columns]
  AlignedBuffer codes;            ///< [2][rows][code_stride]
  AlignedBuffer scales;           ///< float [rows][segments]
  AlignedBuffer zeros;            ///< int32, the same
  AlignedBuffer sums;             ///< int32, the same
  AlignedBuffer rounded;          ///< bf16 [rows][code_stride], or tiles of planes (kernels::FloatGemm)
};

struct Norm {
  std::span<const float> gamma;  ///< [columns]
  double eps;
};

/// Rows that are ready for the layers of one site, in the buffers of a LinearUnit: codes where the site's plan is
/// integer, floats where it is not, or where some of its layers are not. Good until that makes other rows ready.
struct LinearRows {
  std::int64_t columns;
  kernels::IntActivations codes;
  ConstRows floats;
  const std::uint16_t* rounded;  ///< the floats in bf16, as kernels::FloatGemm takes them; or nullptr
  std::int64_t rounded_stride;
  int bf16_planes;
};

/// A linear layer to apply: out (+)= rows * weights, or gate(rows * weights) * (rows * up).
struct LinearProduct {
  const PackedLinear* weights;
  const PackedLinear* up;  ///< of the same shape; nullptr: a plain product
  Rows out;
  kernels::Store store;
  kernels::Gate gate = kernels::Gate::silu;
};

/// Linear layers on this processor. It holds nothing but the place to work in: what prepare gives, multiply takes.
class LinearUnit {
 public:
  LinearUnit(const kernels::KernelTable& table, LinearBuffers& buffers, Scratch& scratch)
      : table_(table), buffers_(buffers), scratch_(scratch) {}

  /// The RMS norm of `rows` [count, columns], as the site's layers read it.
  LinearRows prepare(const LinearInput& input, const ConstRows& rows, const Norm& norm) const;
  /// `rows` [count, columns] as the site's layers read them. The rows themselves are changed, by the site's transform
  /// and, where layers read floats, by the quantizer.
  LinearRows prepare(const LinearInput& input, const Rows& rows) const;
  /// Applies several layers of the site to its rows.
  void multiply(const LinearRows& rows, std::span<const LinearProduct> products) const;
  /// Panels [first, last) of one layer on the calling thread, which is number `thread`: out [rows][the panels'
  /// channels].
  void multiply_panels(const LinearRows& rows, const PackedLinear& weights, std::int64_t first, std::int64_t last,
                       const Rows& out, std::size_t thread) const;

 private:
  template <typename First>
  LinearRows prepare_after(const LinearInput& input, const Rows& rows, const First& first) const;
  void quantize(const LinearInput& input, const Rows& rows, std::int64_t row, const AffineParams& shared) const;
  AffineParams shared_params(const LinearInput& input, const Rows& rows) const;
  kernels::QuantizedRow target(const LinearInput& input, std::int64_t row) const;
  LinearRows ready(const LinearInput& input, const Rows& rows) const;

  const kernels::KernelTable& table_;
  LinearBuffers& buffers_;
  Scratch& scratch_;
};

}  // namespace pq::runtime
