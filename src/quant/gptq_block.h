#pragma once

#include <cstdint>

namespace pq::quant {

/// GPTQ's inner loop over a block of columns on the CPU: column after column is rounded, and the block's later ones
/// make up for its error. A column of the layer is a row here.
struct CompensatedBlock {
  std::int64_t columns;        ///< at most 128
  std::int64_t channels;       ///< out features
  float* left;                 ///< [columns, channels] in: what is left of the weights; out: what was rounded
  float* codes;                ///< [columns, channels] out: whole numbers
  float* errors;               ///< [columns, channels] out: each column's error over its diagonal element
  const float* factor;         ///< [columns, factor_stride], upper triangle of the block
  std::int64_t factor_stride;  ///< floats
  const float* scale;          ///< [groups, channels]
  const float* zero_point;     ///< [groups, channels], or null
  std::int64_t first_column;   ///< of the layer; column c reads the scales of group c / group
  std::int64_t group;
  float low, high;  ///< of a code
};

/// Works on channels begin .. end-1.
void compensate(const CompensatedBlock& block, std::int64_t begin, std::int64_t end);

/// The choice of a group's scales on the CPU.
struct GroupChoice {
  std::int64_t columns;     ///< in the group
  std::int64_t channels;    ///< out features
  const float* left;        ///< [columns, channels] what is left of the weights
  const float* importance;  ///< [columns] of a squared error
  std::int64_t candidates;
  const float* candidate_scale;       ///< [candidates, channels]
  const float* candidate_zero_point;  ///< [candidates, channels], or null
  float* scale;                       ///< [channels] out
  float* zero_point;                  ///< [channels] out, or null
  float low, high;                    ///< of a code
};

/// Takes for each of channels begin .. end-1 the first candidate with the least error.
void choose_scales(const GroupChoice& choice, std::int64_t begin, std::int64_t end);

}  // namespace pq::quant
