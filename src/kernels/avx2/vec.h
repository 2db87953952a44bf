#pragma once

#include <immintrin.h>

#include <cstdint>

// Vectors of 16 lanes, the one vocabulary of the kernels in simd/: names and meanings as in avx512/vec.h, on pairs of
// 256-bit registers. Compiled twice, without and with AVX-VNNI, each time in a namespace of its own.

#ifdef PQ_AVX_VNNI
#define PQ_AVX2_NAMESPACE avx2_vnni
#else
#define PQ_AVX2_NAMESPACE avx2
#endif

namespace pq::kernels::PQ_AVX2_NAMESPACE {

struct F {
  __m256 a, b;
};
struct I {
  __m256i a, b;
};
using B = I;

inline constexpr int tile_rows = 4;
inline constexpr int tile_panels = 1;
inline constexpr int hadamard_radix = 4;

inline F f_zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline F f_set(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F f_load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void f_store(float* p, F x) {
  _mm256_storeu_ps(p, x.a);
  _mm256_storeu_ps(p + 8, x.b);
}

inline I i_zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline I i_set(std::int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline I i_load(const std::int32_t* p) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + 8))};
}
inline I i_load_bytes(const std::uint8_t* p) {
  return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline void i_store(std::int32_t* p, I x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.a);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8), x.b);
}
/// -1 in the first n of 16 lanes, 0 in the others.
inline I i_mask(std::int64_t n) {
  const __m256i count = _mm256_set1_epi32(static_cast<int>(n));
  return {_mm256_cmpgt_epi32(count, _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)),
          _mm256_cmpgt_epi32(count, _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15))};
}
inline F f_load_n(const float* p, std::int64_t n) {
  const I lanes = i_mask(n);
  return {_mm256_maskload_ps(p, lanes.a), _mm256_maskload_ps(p + 8, lanes.b)};
}
inline void f_store_n(float* p, F x, std::int64_t n) {
  const I lanes = i_mask(n);
  _mm256_maskstore_ps(p, lanes.a, x.a);
  _mm256_maskstore_ps(p + 8, lanes.b, x.b);
}

inline F f_add(F x, F y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline F f_sub(F x, F y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline F f_mul(F x, F y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline F f_div(F x, F y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }
inline F f_fma(F x, F y, F z) { return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)}; }
inline F f_fnma(F x, F y, F z) { return {_mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b)}; }
inline F f_max(F x, F y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline F f_min(F x, F y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }
inline F f_abs(F x) {
  const __m256 sign = _mm256_set1_ps(-0.0F);
  return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}
inline F f_round(F x) {
  return {_mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
          _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline F f_nan_to_zero(F x) {
  return {_mm256_and_ps(x.a, _mm256_cmp_ps(x.a, x.a, _CMP_ORD_Q)),
          _mm256_and_ps(x.b, _mm256_cmp_ps(x.b, x.b, _CMP_ORD_Q))};
}
inline bool f_all_below(F x, F y) {
  const __m256 below = _mm256_and_ps(_mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ));
  return _mm256_movemask_ps(below) == 0xff;
}
inline float f_first(F x) { return _mm256_cvtss_f32(x.a); }
inline float f_sum(F x) {
  const __m256 eight = _mm256_add_ps(x.a, x.b);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
inline float f_largest(F x) {
  const __m256 eight = _mm256_max_ps(x.a, x.b);
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
inline float f_smallest(F x) {
  const __m256 eight = _mm256_min_ps(x.a, x.b);
  const __m128 four = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)));
}

inline I i_add(I x, I y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }
inline I i_sub(I x, I y) { return {_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)}; }
inline I i_mul(I x, I y) { return {_mm256_mullo_epi32(x.a, y.a), _mm256_mullo_epi32(x.b, y.b)}; }
inline I i_max(I x, I y) { return {_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)}; }
inline I i_min(I x, I y) { return {_mm256_min_epi32(x.a, y.a), _mm256_min_epi32(x.b, y.b)}; }
inline I i_and(I x, I y) { return {_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)}; }
template <int N>
inline I i_shift_left(I x) {
  return {_mm256_slli_epi32(x.a, N), _mm256_slli_epi32(x.b, N)};
}
template <int N>
inline I i_shift_right(I x) {
  return {_mm256_srai_epi32(x.a, N), _mm256_srai_epi32(x.b, N)};
}
inline std::int32_t i_sum(I x) {
  const __m256i eight = _mm256_add_epi32(x.a, x.b);
  const __m128i four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 1)));
}
inline std::int32_t i_largest(I x) {
  const __m256i eight = _mm256_max_epi32(x.a, x.b);
  const __m128i four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
  const __m128i two = _mm_max_epi32(four, _mm_unpackhi_epi64(four, four));
  return _mm_cvtsi128_si32(_mm_max_epi32(two, _mm_shuffle_epi32(two, 1)));
}
inline F f_from_i(I x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline I i_from_f(F x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline I i_bits(F x) { return {_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)}; }
inline void i_store_bytes(std::int8_t* p, I x) {
  const __m256i low = _mm256_set1_epi32(0xff);
  // Words of a and b, alternating by halves of a register; the permutation puts them in order.
  const __m256i words =
      _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low)), 0xd8);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

inline F f_exp2i(F x) {
  const I biased = i_shift_left<23>(i_add(i_from_f(x), i_set(127)));
  return {_mm256_castsi256_ps(biased.a), _mm256_castsi256_ps(biased.b)};
}
inline F f_load_f16(const std::uint16_t* p) {
  return {_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))),
          _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p + 8)))};
}
inline __m256 f_widen_bf16(const std::uint16_t* p) {
  return _mm256_castsi256_ps(
      _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))), 16));
}
inline F f_load_bf16(const std::uint16_t* p) { return {f_widen_bf16(p), f_widen_bf16(p + 8)}; }
inline F f_even_bf16(const void* p) {
  const I x = i_shift_left<16>(i_load(static_cast<const std::int32_t*>(p)));
  return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
}
inline F f_odd_bf16(const void* p) {
  const I x = i_and(i_load(static_cast<const std::int32_t*>(p)), i_set(-65536));
  return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
}

/// Lane i of x becomes sign(i) * x[i] + x[partner of i]: one level of a Hadamard transform inside 8 lanes.
inline __m256 f_level(__m256 x, __m256 partner, __m256 signs) {
  return _mm256_add_ps(_mm256_xor_ps(x, signs), partner);
}
inline __m256 f_hadamard8(__m256 x) {
  const float n = -0.0F;
  const __m256 signs1 = _mm256_setr_ps(0, n, 0, n, 0, n, 0, n);
  const __m256 signs2 = _mm256_setr_ps(0, 0, n, n, 0, 0, n, n);
  const __m256 signs4 = _mm256_setr_ps(0, 0, 0, 0, n, n, n, n);
  x = f_level(x, _mm256_permute_ps(x, 0xb1), signs1);
  x = f_level(x, _mm256_permute_ps(x, 0x4e), signs2);
  return f_level(x, _mm256_permute2f128_ps(x, x, 1), signs4);
}
inline F f_hadamard16(F x) {
  const __m256 a = f_hadamard8(x.a);
  const __m256 b = f_hadamard8(x.b);
  return {_mm256_add_ps(a, b), _mm256_sub_ps(a, b)};
}

inline B b_load(const void* p) { return i_load(static_cast<const std::int32_t*>(p)); }
inline void b_store(void* p, B x) { i_store(static_cast<std::int32_t*>(p), x); }
inline B b_set(std::uint8_t x) {
  const __m256i bytes = _mm256_set1_epi8(static_cast<char>(x));
  return {bytes, bytes};
}
inline B b_add(B x, B y) { return {_mm256_add_epi8(x.a, y.a), _mm256_add_epi8(x.b, y.b)}; }
inline B b_sub(B x, B y) { return {_mm256_sub_epi8(x.a, y.a), _mm256_sub_epi8(x.b, y.b)}; }
inline B b_and(B x, B y) { return i_and(x, y); }
inline B b_or(B x, B y) { return {_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)}; }
template <int N>
inline B b_shift_right(B x) {
  return {_mm256_srli_epi16(x.a, N), _mm256_srli_epi16(x.b, N)};
}
template <int N>
inline B b_shift_left(B x) {
  return {_mm256_slli_epi16(x.a, N), _mm256_slli_epi16(x.b, N)};
}
inline B b_broadcast4(const void* p) {
  std::int32_t quad;
  __builtin_memcpy(&quad, p, 4);
  return i_set(quad);
}

inline B b_spread(const std::uint8_t* p) {
  const I lanes = i_load_bytes(p);
  const __m256i first = _mm256_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c, 0, 0x04040404, 0x08080808, 0x0c0c0c0c);
  return {_mm256_shuffle_epi8(lanes.a, first), _mm256_shuffle_epi8(lanes.b, first)};
}
inline B b_factor(B spread) {
  const __m256i low = _mm256_set1_epi16(0xff);
  return {_mm256_and_si256(spread.a, low), _mm256_and_si256(spread.b, low)};
}
inline B b_multiply(B bytes, B factor) {
  return {_mm256_mullo_epi16(bytes.a, factor.a), _mm256_mullo_epi16(bytes.b, factor.b)};
}

#ifdef PQ_AVX_VNNI
inline I dot(I acc, B unsigned_bytes, B signed_bytes) {
  return {_mm256_dpbusd_avx_epi32(acc.a, unsigned_bytes.a, signed_bytes.a),
          _mm256_dpbusd_avx_epi32(acc.b, unsigned_bytes.b, signed_bytes.b)};
}
#else
// vpmaddubsw would saturate at 255 * 127 * 2: even and odd bytes go through 16-bit products instead.
inline __m256i dot_half(__m256i acc, __m256i unsigned_bytes, __m256i signed_bytes) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(unsigned_bytes, _mm256_set1_epi16(0xff)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(signed_bytes, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(unsigned_bytes, 8), _mm256_srai_epi16(signed_bytes, 8));
  return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
}
inline I dot(I acc, B unsigned_bytes, B signed_bytes) {
  return {dot_half(acc.a, unsigned_bytes.a, signed_bytes.a), dot_half(acc.b, unsigned_bytes.b, signed_bytes.b)};
}
#endif

template <int Ahead>
inline void prefetch(const void* p) {
  _mm_prefetch(static_cast<const char*>(p) + Ahead, _MM_HINT_T0);
}
/// To the second cache only.
template <int Ahead>
inline void prefetch_far(const void* p) {
  _mm_prefetch(static_cast<const char*>(p) + Ahead, _MM_HINT_T1);
}

}  // namespace pq::kernels::PQ_AVX2_NAMESPACE
