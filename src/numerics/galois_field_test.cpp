#include "numerics/galois_field.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

namespace pq {
namespace {

TEST(GaloisField, FindsPrimePowers) {
  for (const std::int64_t q : {0, 1, 6, 12, 75, 147, 171, 923, 2401 * 2}) EXPECT_FALSE(prime_power(q)) << q;
  EXPECT_EQ(prime_power(343)->prime, 7);
  EXPECT_EQ(prime_power(343)->degree, 3);
  EXPECT_EQ(prime_power(461)->prime, 461);
  EXPECT_EQ(prime_power(461)->degree, 1);
  EXPECT_EQ(prime_power(1024)->degree, 10);
}

class GaloisFieldOfSize : public testing::TestWithParam<std::int64_t> {};

TEST_P(GaloisFieldOfSize, IsAField) {
  const GaloisField field(prime_power(GetParam()).value());
  const std::int64_t q = field.size();
  ASSERT_EQ(q, GetParam());
  for (std::int64_t a = 1; a < q; ++a) {
    std::set<std::int64_t> products;
    for (std::int64_t b = 0; b < q; ++b) {
      const std::int64_t product = field.multiply(a, b);
      ASSERT_TRUE(product >= 0 && product < q);
      products.insert(product);
      ASSERT_EQ(product, field.multiply(b, a));
    }
    // Multiplication by a is a bijection, so a has an inverse: the modulus is irreducible.
    ASSERT_EQ(products.size(), static_cast<std::size_t>(q)) << a;
    ASSERT_EQ(field.multiply(a, 1), a);
    ASSERT_EQ(field.subtract(a, a), 0);
    ASSERT_EQ(field.subtract(a, 0), a);
  }
  for (std::int64_t a = 0; a < q; ++a) {
    const std::int64_t b = (7 * a + 3) % q;
    const std::int64_t c = (11 * a + 5) % q;
    ASSERT_EQ(field.multiply(a, field.subtract(b, c)), field.subtract(field.multiply(a, b), field.multiply(a, c)));
    ASSERT_EQ(field.multiply(a, field.multiply(b, c)), field.multiply(field.multiply(a, b), c));
  }
}

TEST_P(GaloisFieldOfSize, HalfOfTheNonzeroElementsAreSquares) {
  const GaloisField field(prime_power(GetParam()).value());
  const auto chi = field.quadratic_character();
  EXPECT_EQ(chi[0], 0);
  EXPECT_EQ(std::accumulate(chi.begin(), chi.end(), 0), 0);
  // chi(-1) = 1 exactly for q = 1 (mod 4): what makes Paley I skew and Paley II symmetric.
  const auto minus_one = static_cast<std::size_t>(field.subtract(0, 1));
  EXPECT_EQ(chi[minus_one], GetParam() % 4 == 1 ? 1 : -1);
}

INSTANTIATE_TEST_SUITE_P(Sizes, GaloisFieldOfSize, testing::Values(3, 9, 17, 25, 27, 43, 49, 81, 125, 243, 343));

}  // namespace
}  // namespace pq
