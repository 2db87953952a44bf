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

 private:
  VerifyRow& row(const std::string& tensor);

  std::vector<VerifyRow> rows_;
};

}  // namespace pq::runtime
