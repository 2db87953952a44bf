#include "eval/softmax.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

namespace pq::eval {
namespace {

// Four floats: one register of SSE2 or NEON, whatever the optimization level. Both compilers know this extension.
using Lanes [[gnu::vector_size(16)]] = float;
using IntLanes [[gnu::vector_size(16)]] = std::int32_t;

constexpr std::size_t lane_count = 4;
constexpr std::size_t registers = 4;  // independent sums, so that additions need not wait for each other
constexpr std::size_t block_size = registers * lane_count;
constexpr std::size_t blocks_in_float = 16;  // float32 sums of this many terms before they go to float64

using Block = std::array<Lanes, registers>;

constexpr float lowest = std::numeric_limits<float>::lowest();

inline Lanes splat(float value) { return Lanes{value, value, value, value}; }

inline Block load(const float* from) {
  Block block;
  std::memcpy(block.data(), from, sizeof block);
  return block;
}

// The last, incomplete block, filled up with a value that neither maxima nor sums notice (unless the maximum is there
// itself).
inline Block load_part(const float* from, std::size_t count) {
  std::array<float, block_size> padded;
  padded.fill(lowest);
  std::copy_n(from, count, padded.begin());
  return load(padded.data());
}

// Written out, so that every optimization level keeps a block in registers.
template <typename Step>
inline void for_each_register(const Step& step) {
  step(0);
  step(1);
  step(2);
  step(3);
}

inline Lanes larger(Lanes a, Lanes b) { return a > b ? a : b; }

// exp for x <= 0: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial for exp(r), and n added to the exponent.
inline Lanes exp_lanes(Lanes x) {
  x = larger(x, splat(-87.0F));
  constexpr float round_to_integer = 12582912.0F;  // 1.5 * 2^23: the sum's low bits hold n
  const Lanes shifted = x * splat(1.44269504F) + splat(round_to_integer);
  const Lanes n = shifted - splat(round_to_integer);
  const Lanes r =
      (x - n * splat(0.693359375F)) - n * splat(-2.12194440e-4F);  // ln 2 in two parts, the first exact in n
  Lanes p = splat(1.9875691500e-4F);                               // Cephes expf
  p = p * r + splat(1.3981999507e-3F);
  p = p * r + splat(8.3334519073e-3F);
  p = p * r + splat(4.1665795894e-2F);
  p = p * r + splat(1.6666665459e-1F);
  p = p * r + splat(5.0000001201e-1F);
  p = p * (r * r) + r + splat(1.0F);
  const IntLanes exponent = (std::bit_cast<IntLanes>(shifted) << 23) + 0x3f800000;
  return p * std::bit_cast<Lanes>(exponent);
}

double sum_of(const Block& block) {
  double sum = 0;
  for (const Lanes& lanes : block) {
    for (std::size_t i = 0; i < lane_count; ++i) sum += static_cast<double>(lanes[i]);
  }
  return sum;
}

// Sum over all blocks of term(start, count), in float32 within blocks_in_float blocks and in float64 beyond.
template <typename Term>
double sum_of_blocks(std::size_t size, const Term& term) {
  double total = 0;
  const std::size_t whole = size / block_size * block_size;
  for (std::size_t start = 0; start < whole;) {
    const std::size_t end = std::min(whole, start + blocks_in_float * block_size);
    Block sums{};
    for (; start < end; start += block_size) {
      const Block terms = term(start, block_size);
      for_each_register([&](std::size_t i) { sums[i] += terms[i]; });
    }
    total += sum_of(sums);
  }
  if (whole < size) total += sum_of(term(whole, size - whole));
  return total;
}

inline Block load_some(std::span<const float> x, std::size_t start, std::size_t count) {
  return count == block_size ? load(x.data() + start) : load_part(x.data() + start, count);
}

struct MaxAndFinite {
  float max;
  bool finite;
};

MaxAndFinite max_and_finite(std::span<const float> x) {
  Block maxima;
  maxima.fill(splat(lowest));
  Block zeros{};  // 0 * x is 0, or a NaN that stays
  const auto take = [&](const Block& block) {
    for_each_register([&](std::size_t i) {
      maxima[i] = larger(block[i], maxima[i]);
      zeros[i] += block[i] * splat(0.0F);
    });
  };
  const std::size_t whole = x.size() / block_size * block_size;
  for (std::size_t start = 0; start < whole; start += block_size) take(load(x.data() + start));
  if (whole < x.size()) take(load_part(x.data() + whole, x.size() - whole));
  float max = lowest;
  for (const Lanes& lanes : maxima) {
    for (std::size_t i = 0; i < lane_count; ++i) max = std::max(max, lanes[i]);
  }
  return {max, sum_of(zeros) == 0};
}

}  // namespace

LogitStats logit_stats(std::span<const float> logits) {
  const auto [max, finite] = max_and_finite(logits);
  if (!finite) return {max, 0, false};
  const Lanes max_lanes = splat(max);
  const double sum = sum_of_blocks(logits.size(), [&](std::size_t start, std::size_t count) {
    Block block = load_some(logits, start, count);
    for_each_register([&](std::size_t i) { block[i] = exp_lanes(block[i] - max_lanes); });
    return block;
  });
  return {max, std::log(sum), true};
}

double kl_divergence(std::span<const float> reference, const LogitStats& reference_stats, std::span<const float> model,
                     const LogitStats& model_stats) {
  // Relative to each row's own maximum, so that a constant between the two rows costs no precision.
  const Lanes reference_max = splat(reference_stats.max);
  const Lanes model_max = splat(model_stats.max);
  const double weighted = sum_of_blocks(reference.size(), [&](std::size_t start, std::size_t count) {
    Block a = load_some(reference, start, count);
    const Block b = load_some(model, start, count);
    for_each_register([&](std::size_t i) {
      const Lanes difference = a[i] - reference_max;
      a[i] = exp_lanes(difference) * (difference - (b[i] - model_max));
    });
    return a;
  });
  return weighted * std::exp(-reference_stats.log_sum) + model_stats.log_sum - reference_stats.log_sum;
}

std::int64_t first_index_of(std::span<const float> logits, float max) {
  const Lanes wanted = splat(max);
  std::size_t start = 0;
  for (; start + block_size <= logits.size(); start += block_size) {
    const Block block = load(logits.data() + start);
    const IntLanes equal = (block[0] == wanted) | (block[1] == wanted) | (block[2] == wanted) | (block[3] == wanted);
    if ((equal[0] | equal[1] | equal[2] | equal[3]) != 0) break;
  }
  return std::find(logits.begin() + static_cast<std::ptrdiff_t>(start), logits.end(), max) - logits.begin();
}

std::vector<double> log_softmax(std::span<const double> logits) {
  const double largest = *std::max_element(logits.begin(), logits.end());
  double total = 0;
  for (const double logit : logits) total += std::exp(logit - largest);
  std::vector<double> logs;
  logs.reserve(logits.size());
  for (const double logit : logits) logs.push_back(logit - largest - std::log(total));
  return logs;
}

double kl_divergence(std::span<const double> reference, std::span<const double> model) {
  double sum = 0;
  for (std::size_t i = 0; i < reference.size(); ++i) sum += std::exp(reference[i]) * (reference[i] - model[i]);
  return sum;
}

std::int64_t first_largest(std::span<const double> logits) {
  return std::max_element(logits.begin(), logits.end()) - logits.begin();
}

void exp_of_nonpositive(std::span<float> x) {
  for (std::size_t start = 0; start < x.size(); start += block_size) {
    const std::size_t count = std::min(block_size, x.size() - start);
    Block block = load_some(x, start, count);
    for_each_register([&](std::size_t i) { block[i] = exp_lanes(block[i]); });
    std::memcpy(x.data() + start, block.data(), count * sizeof(float));
  }
}

}  // namespace pq::eval
