#include "numerics/galois_field.h"

namespace pq {
namespace {

using Polynomial = std::vector<std::int64_t>;  // coefficients over GF(p), lowest first

Polynomial digits(std::int64_t value, std::int64_t prime, std::int64_t count) {
  Polynomial out(static_cast<std::size_t>(count));
  for (auto& digit : out) {
    digit = value % prime;
    value /= prime;
  }
  return out;
}

// Reduces `value` modulo the monic polynomial `modulus`; the degree of the result is below that of `modulus`.
void reduce(Polynomial& value, const Polynomial& modulus, std::int64_t prime) {
  const std::size_t degree = modulus.size() - 1;
  while (value.size() > degree) {
    const std::int64_t lead = value.back();
    const std::size_t shift = value.size() - modulus.size();
    for (std::size_t i = 0; i < degree; ++i) {
      value[shift + i] = (value[shift + i] + (prime - lead) * modulus[i]) % prime;
    }
    value.pop_back();
  }
}

std::int64_t power(std::int64_t base, std::int64_t exponent) {
  std::int64_t result = 1;
  for (std::int64_t i = 0; i < exponent; ++i) result *= base;
  return result;
}

Polynomial monic(std::int64_t lower_coefficients, std::int64_t prime, std::int64_t degree) {
  Polynomial out = digits(lower_coefficients, prime, degree);
  out.push_back(1);
  return out;
}

bool divides(const Polynomial& divisor, const Polynomial& value, std::int64_t prime) {
  Polynomial rest = value;
  reduce(rest, divisor, prime);
  for (const std::int64_t coefficient : rest) {
    if (coefficient != 0) return false;
  }
  return true;
}

bool irreducible(const Polynomial& candidate, std::int64_t prime, std::int64_t degree) {
  for (std::int64_t d = 1; 2 * d <= degree; ++d) {
    for (std::int64_t lower = 0; lower < power(prime, d); ++lower) {
      if (divides(monic(lower, prime, d), candidate, prime)) return false;
    }
  }
  return true;
}

}  // namespace

std::optional<PrimePower> prime_power(std::int64_t q) {
  if (q < 2) return std::nullopt;
  std::int64_t prime = q;
  for (std::int64_t p = 2; p <= q / p; ++p) {
    if (q % p == 0) {
      prime = p;
      break;
    }
  }
  std::int64_t degree = 0;
  for (; q % prime == 0; q /= prime) ++degree;
  if (q != 1) return std::nullopt;
  return PrimePower{prime, degree};
}

GaloisField::GaloisField(PrimePower q) : prime_(q.prime), degree_(q.degree), size_(power(q.prime, q.degree)) {
  // One exists for every degree, so the search ends.
  for (std::int64_t lower = 0;; ++lower) {
    modulus_ = monic(lower, prime_, degree_);
    if (irreducible(modulus_, prime_, degree_)) return;
  }
}

std::int64_t GaloisField::subtract(std::int64_t a, std::int64_t b) const noexcept {
  std::int64_t result = 0;
  for (std::int64_t place = 1; place < size_; place *= prime_) {
    result += (a / place + prime_ - b / place % prime_) % prime_ * place;
  }
  return result;
}

std::int64_t GaloisField::multiply(std::int64_t a, std::int64_t b) const {
  const Polynomial x = digits(a, prime_, degree_);
  const Polynomial y = digits(b, prime_, degree_);
  Polynomial product(x.size() + y.size() - 1, 0);
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (std::size_t j = 0; j < y.size(); ++j) product[i + j] = (product[i + j] + x[i] * y[j]) % prime_;
  }
  reduce(product, modulus_, prime_);
  std::int64_t result = 0;
  for (std::size_t i = product.size(); i > 0; --i) result = result * prime_ + product[i - 1];
  return result;
}

std::vector<std::int8_t> GaloisField::quadratic_character() const {
  std::vector<std::int8_t> chi(static_cast<std::size_t>(size_), -1);
  chi[0] = 0;
  for (std::int64_t a = 1; a < size_; ++a) chi[static_cast<std::size_t>(multiply(a, a))] = 1;
  return chi;
}

}  // namespace pq
