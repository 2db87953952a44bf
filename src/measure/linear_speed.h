#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "measure/limits.h"
#include "model/recipe.h"
#include "runtime/linear.h"
#include "runtime/packed_linear.h"
#include "runtime/scratch.h"

namespace pq::measure {

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

  LinearSize size_;
  const kernels::KernelTable& table_;
  std::vector<runtime::PackedLinear> layers_;
  runtime::LinearInput input_;
  runtime::RowBuffer floats_;  // [rows, inputs]
  runtime::RowBuffer out_;     // [rows, outputs]
  runtime::LinearBuffers buffers_;
  runtime::Scratch scratch_;
};

}  // namespace pq::measure
