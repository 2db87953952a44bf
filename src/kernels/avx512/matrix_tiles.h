#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>
#include <initializer_list>

// The matrix unit of newer x86 processors (AMX): products of 16 x 64 bytes by 64 x 16 bytes. The packed layout of
// IntWeights is its layout too: 16 quads of a panel are one tile.

namespace pq::kernels::PQ_AVX512_NAMESPACE {

inline constexpr std::int64_t matrix_rows = 32;   // rows of a block of four result tiles
inline constexpr std::int64_t matrix_bytes = 64;  // of a row in one step

/// Tiles 0 to 3: results, 2 x 2. 4 and 5: rows. 6 and 7: weights. All of 16 rows of 64 bytes.
class MatrixTiles {
 public:
  MatrixTiles() {
    struct alignas(64) {
      std::uint8_t palette = 1;
      std::uint8_t start_row = 0;
      std::uint8_t reserved[14] = {};
      std::uint16_t column_bytes[16] = {};
      std::uint8_t rows[16] = {};
    } config;
    for (int i = 0; i < 8; ++i) {
      config.column_bytes[i] = 64;
      config.rows[i] = 16;
    }
    // g++ 12 believes that the intrinsic reads 8 bytes, and drops what is written to the others.
    asm volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
  }
  ~MatrixTiles() { _tile_release(); }
  MatrixTiles(const MatrixTiles&) = delete;
  MatrixTiles& operator=(const MatrixTiles&) = delete;
};

enum class MatrixKind { int8, bf16 };

/// Where tiles of an operand lie: lines of 64 bytes at a distance of `line` bytes, those of the next 64 bytes of
/// columns `step` bytes further. Loads that miss the first-level cache are what limits these products: tiles whose
/// lines are neighbours come in by themselves.
struct MatrixOperand {
  const void* at;
  std::int64_t line;
  std::int64_t step;

  const std::uint8_t* tile(std::int64_t number) const { return static_cast<const std::uint8_t*>(at) + number * step; }
};

/// Weights of a panel, with those of the next panel `next` bytes further, and the 32 rows that they meet.
struct MatrixTerm {
  MatrixOperand panel;
  std::int64_t next;
  std::initializer_list<MatrixOperand> rows;
};

/// sums [32][sum_stride] (int32 or float) = all products of the terms, over `steps` steps of 64 bytes: signed times
/// unsigned bytes, or pairs of bf16. `Panels` neighbouring panels, 1 or 2, are computed at once.
template <MatrixKind Kind, int Panels = 2>
inline void multiply_matrix(std::initializer_list<MatrixTerm> terms, std::int64_t steps, void* sums,
                            std::int64_t sum_stride) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (std::int64_t step = 0; step < steps; ++step) {
    for (const MatrixTerm& term : terms) {
      const std::uint8_t* panel = term.panel.tile(step);
      _tile_loadd(6, panel, static_cast<std::size_t>(term.panel.line));
      if constexpr (Panels == 2) _tile_loadd(7, panel + term.next, static_cast<std::size_t>(term.panel.line));
      for (const MatrixOperand& rows : term.rows) {
        const std::uint8_t* upper = rows.tile(step);
        _tile_loadd(4, upper, static_cast<std::size_t>(rows.line));
        _tile_loadd(5, upper + 16 * rows.line, static_cast<std::size_t>(rows.line));
        if constexpr (Kind == MatrixKind::int8) {
          _tile_dpbsud(0, 4, 6);
          if constexpr (Panels == 2) _tile_dpbsud(1, 4, 7);
          _tile_dpbsud(2, 5, 6);
          if constexpr (Panels == 2) _tile_dpbsud(3, 5, 7);
        } else {
          _tile_dpbf16ps(0, 4, 6);
          if constexpr (Panels == 2) _tile_dpbf16ps(1, 4, 7);
          _tile_dpbf16ps(2, 5, 6);
          if constexpr (Panels == 2) _tile_dpbf16ps(3, 5, 7);
        }
      }
    }
  }
  const auto bytes = static_cast<std::size_t>(sum_stride) * 4;
  auto* out = static_cast<std::uint8_t*>(sums);
  _tile_stored(0, out, bytes);
  if constexpr (Panels == 2) _tile_stored(1, out + 64, bytes);
  _tile_stored(2, out + 16 * bytes, bytes);
  if constexpr (Panels == 2) _tile_stored(3, out + 16 * bytes + 64, bytes);
}

/// 16 floats with only the upper half of their bits, cut off: bf16 numbers.
inline __m512 upper_halves(__m512 x) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(-0x10000)));
}

/// Two bf16 numbers in every lane: the upper halves of `even` and of `odd`.
inline __m512i paired_bf16(__m512 even, __m512 odd) {
  return _mm512_or_si512(_mm512_srli_epi32(_mm512_castps_si512(even), 16),
                         _mm512_and_si512(_mm512_castps_si512(odd), _mm512_set1_epi32(-0x10000)));
}

/// A row's part of FloatGemm's exact planes.
inline void split_bf16(const float* x, std::int64_t n, std::uint16_t* out) noexcept {
  for (std::int64_t i = 0; i < n; i += 32) {
    __m512 low = _mm512_loadu_ps(x + i);
    __m512 high = _mm512_loadu_ps(x + i + 16);
    for (int plane = 0; plane < float_planes; ++plane) {
      const __m256i low_digits = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(low), 16));
      const __m256i high_digits = _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_castps_si512(high), 16));
      _mm512_store_si512(out, _mm512_inserti64x4(_mm512_castsi256_si512(low_digits), high_digits, 1));
      out += plane_tile_values;
      low = _mm512_sub_ps(low, upper_halves(low));
      high = _mm512_sub_ps(high, upper_halves(high));
    }
  }
}

}  // namespace pq::kernels::PQ_AVX512_NAMESPACE
