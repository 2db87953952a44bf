#pragma once

// Site transforms for tests of several folders.

#include <cmath>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "base/random.h"
#include "numerics/site_transform.h"

namespace pq {

inline std::vector<float> random_floats(Random& random, std::int64_t count) {
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random.normal());
  return values;
}

/// Square matrices with a good inverse: something beside a unit matrix.
inline std::vector<float> random_matrices(Random& random, std::int64_t count, std::int64_t order) {
  std::vector<float> values = random_floats(random, count * order * order);
  for (float& value : values) value *= 0.5F / std::sqrt(static_cast<float>(order));
  for (std::int64_t i = 0; i < count * order; ++i) values[static_cast<std::size_t>(i * order + i % order)] += 1.5F;
  return values;
}

inline GatherStep random_gather(Random& random, std::int64_t size) {
  GatherStep gather;
  gather.source.resize(static_cast<std::size_t>(size));
  std::iota(gather.source.begin(), gather.source.end(), 0);
  for (std::size_t i = gather.source.size(); i > 1; --i)
    std::swap(gather.source[i - 1], gather.source[random.below(i)]);
  return gather;
}

inline MultiplyStep random_multiply(Random& random, std::int64_t size) {
  MultiplyStep multiply{random_floats(random, size)};
  for (float& factor : multiply.factors) factor = std::copysign(std::fabs(factor) + 0.5F, factor);
  return multiply;
}

/// One step of every kind for rows of `size` values, a multiple of 4: a Hadamard matrix of the whole row and a
/// repeated one, blocks with matrices of their own and with one for all.
inline SiteTransform every_step(std::int64_t size, std::uint64_t seed = 3) {
  Random random(seed, "steps");
  const std::int64_t half = size / 2;
  const std::int64_t quarter = size / 4;
  return {{random_gather(random, size), random_multiply(random, size), HadamardStep{size}, HadamardStep{4},
           BlockDiagonalStep{4, quarter, random_matrices(random, quarter, 4)},
           BlockDiagonalStep{half, 1, random_matrices(random, 1, half)},
           KroneckerStep{4, quarter, random_matrices(random, 1, 4), random_matrices(random, 1, quarter)}}};
}

}  // namespace pq
