#pragma once

// Quantized blocks and a full disk for the tests of this folder.

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <csignal>
#include <cstdint>
#include <vector>

#include "base/random.h"
#include "io/block_tensors.h"
#include "numerics/two_level.h"

namespace pq::io::testing {

inline void fill(Random& random, std::vector<float>& values) {
  for (float& value : values) value = static_cast<float>(random.uniform() + 0.001);
}
inline void fill(Random& random, std::array<float, 2>& values) {
  for (float& value : values) value = static_cast<float>(random.uniform() + 0.001);
}
template <typename T>
void fill(Random& random, std::vector<T>& values) {
  for (T& value : values) value = static_cast<T>(random.next());
}

/// A block with random values of the right sizes.
inline QuantizedBlock random_block(Random& random, const ModelSpec& spec, const Recipe& recipe, std::int64_t index) {
  QuantizedBlock block;
  block.transforms = online_rotations(spec, recipe.rotate);
  visit_block(spec, recipe, index, block, [&](const TensorDeclaration& declaration, auto& values) {
    if constexpr (requires { values.resize(1); }) {
      values.resize(static_cast<std::size_t>(*element_count(declaration.shape)));
    }
    fill(random, values);
  });
  for (QuantizedLinear& linear : block.linears) {
    for (std::size_t i = 0; i < linear.group_scales.size(); ++i) {
      const int scale = 1 + linear.group_scales[i] % two_level::largest_group_scale;
      const QuantRange zero = two_level::zero_point_range(scale);
      linear.group_scales[i] = static_cast<std::uint8_t>(scale);
      linear.zero_points[i] =
          static_cast<std::int16_t>(zero.low + (linear.zero_points[i] & 15) % (zero.high - zero.low + 1));
    }
  }
  return block;
}

inline void expect_equal(const QuantizedBlock& found, const QuantizedBlock& expected) {
  EXPECT_EQ(found.norms, expected.norms);
  EXPECT_EQ(found.key_basis, expected.key_basis);
  EXPECT_EQ(found.key_mean, expected.key_mean);
  for (const LinearId i : all_linears) {
    EXPECT_EQ(found.linears[i].codes, expected.linears[i].codes);
    EXPECT_EQ(found.linears[i].scales, expected.linears[i].scales);
    EXPECT_EQ(found.linears[i].group_scales, expected.linears[i].group_scales);
    EXPECT_EQ(found.linears[i].zero_points, expected.linears[i].zero_points);
    EXPECT_EQ(found.linears[i].weight, expected.linears[i].weight);
    EXPECT_EQ(found.linears[i].bias, expected.linears[i].bias);
  }
  for (const Site i : quantized_sites) {
    EXPECT_EQ(found.sites[i].scale, expected.sites[i].scale);
    EXPECT_EQ(found.sites[i].zero_point, expected.sites[i].zero_point);
    EXPECT_EQ(found.sites[i].clip, expected.sites[i].clip);
    EXPECT_EQ(found.transforms[i], expected.transforms[i]) << site_name(i);
  }
}

/// Files of this process may grow to `bytes` only, as on a full disk; the signal that comes with it is ignored.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &saved_);
    const rlimit limit{bytes, saved_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &saved_);
    std::signal(SIGXFSZ, handler_);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;

 private:
  rlimit saved_{};
  void (*handler_)(int);
};

}  // namespace pq::io::testing
