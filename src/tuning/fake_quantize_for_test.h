#pragma once

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <vector>

#include "base/random.h"
#include "tuning/fake_quantize.h"

namespace pq::quant {

// Slices shorter and longer than a chunk, rows in and across chunks, lengths that fill no vector.
inline const std::vector<SliceLayout> layouts{{1, 1, 1},     {1, 1, 33001}, {1, 37, 19},   {7, 3, 5},    {150, 4, 64},
                                              {1, 300, 128}, {3, 200, 100}, {2, 2, 20001}, {1, 45, 704}, {2, 3, 1}};

inline at::Tensor random_values(at::IntArrayRef shape, std::uint64_t seed) {
  at::Tensor x = at::empty(shape, at::kFloat);
  Random random(seed, "fake quantizers");
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    x.data_ptr<float>()[i] = static_cast<float>(random.normal() * (random.below(20) == 0 ? 4 : 1) + 0.2);
  }
  return x;
}

/// Scales that clamp some values of every slice, and zero points that are not whole.
struct Parameters {
  at::Tensor scale;
  at::Tensor zero_point;
};
inline Parameters random_parameters(const SliceLayout& layout, const QuantizerFormat& format, std::uint64_t seed) {
  Parameters result{at::empty({layout.slices}, at::kFloat), {}};
  if (!format.symmetric) result.zero_point = at::empty({layout.slices}, at::kFloat);
  Random random(seed, "parameters");
  const double levels = std::ldexp(1.0, format.bits) - 1;
  for (std::int64_t i = 0; i < layout.slices; ++i) {
    result.scale.data_ptr<float>()[i] = static_cast<float>((2 + random.uniform()) / levels);
    if (!format.symmetric) {
      result.zero_point.data_ptr<float>()[i] = static_cast<float>(levels * (0.3 + 0.3 * random.uniform()));
    }
  }
  return result;
}

inline void for_each_case(const std::function<void(const SliceLayout&, const QuantizerFormat&)>& body) {
  for (const SliceLayout& layout : layouts) {
    for (const int bits : {2, 3, 4, 8}) {
      for (const bool symmetric : {true, false}) {
        SCOPED_TRACE(testing::Message() << layout.outer << " x " << layout.slices << " x " << layout.inner << ", "
                                        << bits << (symmetric ? " bits, symmetric" : " bits, asymmetric"));
        body(layout, QuantizerFormat{bits, symmetric, ScaleMode::static_scale, Granularity::tensor, 0});
      }
    }
  }
}

/// The same bits, signs of zeros included; NaN equals NaN.
inline bool same_bits(const at::Tensor& a, const at::Tensor& b) {
  const at::ScalarType bits = a.scalar_type() == at::kFloat ? at::kInt : at::kShort;
  return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() &&
         at::equal(a.contiguous().view(bits), b.contiguous().view(bits));
}

inline at::Tensor leaf(const at::Tensor& x) { return x.detach().clone().set_requires_grad(true); }

}  // namespace pq::quant
