#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "verify/matrix.h"

namespace pq::runtime {

/// One tensor of the runtime against the reference arithmetic fed the runtime's own inputs, over all blocks.
struct VerifyRow {
  std::string tensor;
  std::int64_t values = 0;       ///< floats compared
  double max_error = 0;          ///< largest absolute error
  double share = 0;              ///< largest error as a share of its computed bound; above 1: outside
  std::int64_t worst_block = 0;  ///< where that was
  std::int64_t codes = 0;        ///< integers compared
  std::int64_t differing = 0;    ///< of them; any is outside

  bool passed() const { return share <= 1 && differing == 0; }
};

/// The rows of a report, in the order in which their tensors came first.
class Comparison {
 public:
  /// Values of the tensor in a block; each may be off by its bound. Matrices of one shape.
  void add_values(const std::string& tensor, std::int64_t block, const Matrix& actual, const Matrix& expected,
                  const Matrix& bound);
  /// Codes of the tensor in a block, or values that have to be equal.
  void add_codes(const std::string& tensor, std::int64_t block, std::int64_t codes, std::int64_t differing);
  const std::vector<VerifyRow>& rows() const { return rows_; }
  /// Where float32 overflowed: the first tensor with a value that is not finite, and its block, where what the
  /// reference has there or had before is too large for float32 or its squares. Empty where that was not so: then such
  /// a value is the runtime's own fault.
  const std::string& overflow() const { return overflow_; }

 private:
  VerifyRow& row(const std::string& tensor);

  std::vector<VerifyRow> rows_;
  double largest_ = 0;      // that the reference had
  bool all_finite_ = true;  // in the runtime
  std::string overflow_;
};

}  // namespace pq::runtime
