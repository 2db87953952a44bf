#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "measure/limits.h"
#include "model/recipe.h"
#include "runtime/linear_input.h"
#include "runtime/packed_linear.h"

namespace pq::cli {

struct LinearSize {
  std::int64_t inputs;
  std::int64_t outputs;
};

/// Those of a model of 70 billion parameters.
const std::vector<LinearSize>& large_linears();
/// Rows at once: tokens.
const std::vector<std::int64_t>& linear_rows();
/// Precisions of the layers: "bf16", "w4a8-static", ...
std::vector<std::string> linear_precisions();

/// Linear layers of one size with random weights, several of them, so that their weights come from memory as those of a
/// model do.
class BenchLinear {
 public:
  /// Throws SystemError when there is not enough memory.
  BenchLinear(LinearSize size, const std::string& precision, const kernels::KernelTable& table);

  /// Quantizes `rows` rows of activations and multiplies them, for every layer. Returns seconds.
  double run(std::int64_t rows);
  Work work_of(std::int64_t rows) const;
  /// Layers that run(rows) goes through.
  std::int64_t layers(std::int64_t rows) const;

 private:
  void make_quantized(const Recipe& recipe);
  void make_floats();
  void multiply(const runtime::PackedLinear& layer, std::int64_t rows);
  void prepare_row(std::int64_t row, std::int64_t plane_stride);

  LinearSize size_;
  const kernels::KernelTable& table_;
  std::vector<runtime::PackedLinear> layers_;
  runtime::LinearInput input_;
  runtime::AlignedBuffer floats_;   // [rows][inputs]
  runtime::AlignedBuffer rounded_;  // the same in bf16
  runtime::AlignedBuffer codes_;    // [planes][rows][inputs]
  runtime::AlignedBuffer scales_;   // [rows][segments]
  runtime::AlignedBuffer zeros_;    // the same
  runtime::AlignedBuffer sums_;     // the same
  runtime::AlignedBuffer out_;      // [rows][outputs]
  runtime::AlignedBuffer scratch_;  // [threads][gemm_scratch_bytes]
};

}  // namespace pq::cli
