#include "quant/gptq_block.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/processor_clones.h"

namespace pq::quant {
namespace {

constexpr std::int64_t lanes = 64;  // 128 columns of so many channels stay in the first-level cache
constexpr std::int64_t largest_block = 128;

PQ_INLINE float code_of(float x, float scale, float zero, float low, float high) {
  const float code = std::rint(x / scale) + zero;
  const float above = code < low ? low : code;
  return above > high ? high : above;
}

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
      code[c] = code_of(left[i][c], scale[c], zero[c], block.low, block.high);
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

PQ_CLONES void choose_for_lanes(const GroupChoice& choice, std::int64_t begin, std::int64_t count) {
  alignas(64) float left[largest_block][lanes] = {};
  alignas(64) float scale[lanes], zero[lanes], error[lanes], least[lanes], best_scale[lanes], best_zero[lanes];
  for (std::int64_t i = 0; i < choice.columns; ++i) {
    std::copy_n(choice.left + i * choice.channels + begin, count, left[i]);
  }
  std::fill_n(scale, lanes, 1.0F);
  std::fill_n(zero, lanes, 0.0F);
  std::fill_n(least, lanes, std::numeric_limits<float>::infinity());
  std::fill_n(best_scale, lanes, 1.0F);
  std::fill_n(best_zero, lanes, 0.0F);
  for (std::int64_t candidate = 0; candidate < choice.candidates; ++candidate) {
    const std::int64_t at = candidate * choice.channels + begin;
    std::copy_n(choice.candidate_scale + at, count, scale);
    if (choice.candidate_zero_point != nullptr) std::copy_n(choice.candidate_zero_point + at, count, zero);
    std::fill_n(error, lanes, 0.0F);
    for (std::int64_t i = 0; i < choice.columns; ++i) {
      const float importance = choice.importance[i];
      for (std::int64_t c = 0; c < lanes; ++c) {
        const float code = code_of(left[i][c], scale[c], zero[c], choice.low, choice.high);
        const float difference = left[i][c] - (code - zero[c]) * scale[c];
        error[c] += importance * difference * difference;
      }
    }
    for (std::int64_t c = 0; c < lanes; ++c) {
      const bool better = error[c] < least[c];
      least[c] = better ? error[c] : least[c];
      best_scale[c] = better ? scale[c] : best_scale[c];
      best_zero[c] = better ? zero[c] : best_zero[c];
    }
  }
  std::copy_n(best_scale, count, choice.scale + begin);
  if (choice.zero_point != nullptr) std::copy_n(best_zero, count, choice.zero_point + begin);
}

}  // namespace

void compensate(const CompensatedBlock& block, std::int64_t begin, std::int64_t end) {
  for (std::int64_t first = begin; first < end; first += lanes) {
    compensate_lanes(block, first, std::min(lanes, end - first));
  }
}

void choose_scales(const GroupChoice& choice, std::int64_t begin, std::int64_t end) {
  for (std::int64_t first = begin; first < end; first += lanes) {
    choose_for_lanes(choice, first, std::min(lanes, end - first));
  }
}

}  // namespace pq::quant
