#include "quant/gptq_block.h"

#include <algorithm>
#include <cmath>

#include "base/processor_clones.h"

namespace pq::quant {
namespace {

constexpr std::int64_t lanes = 64;  // 128 columns of so many channels stay in the first-level cache
constexpr std::int64_t largest_block = 128;

PQ_CLONES void compensate_lanes(const CompensatedBlock& block, std::int64_t begin, std::int64_t count) {
  alignas(64) float left[largest_block][lanes] = {};
  alignas(64) float scale[lanes], zero[lanes], error[lanes], code[lanes];
  for (std::int64_t i = 0; i < block.columns; ++i) {
    std::copy_n(block.left + i * block.channels + begin, count, left[i]);
  }
  std::fill_n(scale, lanes, 1.0F);
  std::fill_n(zero, lanes, 0.0F);
  std::int64_t loaded = -1;
  for (std::int64_t i = 0; i < block.columns; ++i) {
    const std::int64_t group = (block.first_column + i) / block.group;
    if (group != loaded) {
      std::copy_n(block.scale + group * block.channels + begin, count, scale);
      if (block.zero_point != nullptr) std::copy_n(block.zero_point + group * block.channels + begin, count, zero);
      loaded = group;
    }
    const float* row = block.factor + i * block.factor_stride;
    const float diagonal = row[i];
    for (std::int64_t c = 0; c < lanes; ++c) {
      float rounded = std::rint(left[i][c] / scale[c]) + zero[c];
      rounded = rounded < block.low ? block.low : rounded;
      code[c] = rounded > block.high ? block.high : rounded;
      error[c] = (left[i][c] - (code[c] - zero[c]) * scale[c]) / diagonal;
    }
    for (std::int64_t j = i + 1; j < block.columns; ++j) {
      const float share = row[j];
      for (std::int64_t c = 0; c < lanes; ++c) left[j][c] -= share * error[c];
    }
    std::copy_n(code, count, block.codes + i * block.channels + begin);
    std::copy_n(error, count, block.errors + i * block.channels + begin);
    std::copy_n(left[i], count, block.left + i * block.channels + begin);
  }
}

}  // namespace

void compensate(const CompensatedBlock& block, std::int64_t begin, std::int64_t end) {
  for (std::int64_t first = begin; first < end; first += lanes) {
    compensate_lanes(block, first, std::min(lanes, end - first));
  }
}

}  // namespace pq::quant
