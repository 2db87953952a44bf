#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace pq {

/// q = prime^degree.
struct PrimePower {
  std::int64_t prime;
  std::int64_t degree;
};
/// Nothing when q is below 2 or has two prime factors.
std::optional<PrimePower> prime_power(std::int64_t q);

/// GF(p^k) for the small q = p^k that Paley matrices need. An element is an integer in [0, q) whose base-p digits are
/// the coefficients of a polynomial over GF(p), taken modulo the first monic irreducible polynomial of degree k in
/// counting order.
class GaloisField {
 public:
  explicit GaloisField(PrimePower q);
  std::int64_t size() const noexcept { return size_; }
  std::int64_t subtract(std::int64_t a, std::int64_t b) const noexcept;
  std::int64_t multiply(std::int64_t a, std::int64_t b) const;
  /// Of every element: 0 for zero, 1 for the square of another, -1 otherwise. Odd q.
  std::vector<std::int8_t> quadratic_character() const;

 private:
  std::int64_t prime_;
  std::int64_t degree_;
  std::int64_t size_;
  std::vector<std::int64_t> modulus_;  // coefficients, lowest first; the last is 1
};

}  // namespace pq
