#pragma once

#include <immintrin.h>

#include <cstdint>

// Vectors of 16 lanes, the one vocabulary of the kernels in simd/. Every instruction set has a header that defines
// these names in its own namespace, so that no copy compiled for one processor is ever linked into the code of another.

// Compiled three times: plain, with bf16 products, and with the matrix unit (AMX), each time in a namespace of its own.
#if defined(PQ_MATRIX_TILES)
#define PQ_AVX512_NAMESPACE amx
#elif defined(PQ_BF16_DOT)
#define PQ_AVX512_NAMESPACE avx512_bf16
#else
#define PQ_AVX512_NAMESPACE avx512
#endif

namespace pq::kernels::PQ_AVX512_NAMESPACE {

using F = __m512;   // 16 float
using I = __m512i;  // 16 int32
using B = __m512i;  // 64 bytes: 16 lanes of 4

// Rows x panels of the register tile of a matrix product.
inline constexpr int tile_rows = 6;
inline constexpr int tile_panels = 4;
/// Vectors that a pass of a Hadamard transform holds.
inline constexpr int hadamard_radix = 16;

inline F f_zero() { return _mm512_setzero_ps(); }
inline F f_set(float x) { return _mm512_set1_ps(x); }
inline F f_load(const float* p) { return _mm512_loadu_ps(p); }
inline void f_store(float* p, F x) { _mm512_storeu_ps(p, x); }
/// The first n of 16 lanes, the others 0.
inline F f_load_n(const float* p, std::int64_t n) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>((1U << n) - 1U), p);
}
inline void f_store_n(float* p, F x, std::int64_t n) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1U << n) - 1U), x);
}
inline F f_add(F a, F b) { return _mm512_add_ps(a, b); }
inline F f_sub(F a, F b) { return _mm512_sub_ps(a, b); }
inline F f_mul(F a, F b) { return _mm512_mul_ps(a, b); }
inline F f_div(F a, F b) { return _mm512_div_ps(a, b); }
inline F f_fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
inline F f_fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
inline F f_max(F a, F b) { return _mm512_max_ps(a, b); }
inline F f_min(F a, F b) { return _mm512_min_ps(a, b); }
inline F f_abs(F a) { return _mm512_abs_ps(a); }
/// To the nearest whole number, ties to even.
inline F f_round(F a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
inline F f_nan_to_zero(F a) { return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, a, _CMP_ORD_Q), a); }
/// Whether a < b in every lane (false where one is a NaN).
inline bool f_all_below(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ) == 0xffff; }
inline float f_first(F a) { return _mm512_cvtss_f32(a); }
inline float f_sum(F a) { return _mm512_reduce_add_ps(a); }
inline float f_largest(F a) { return _mm512_reduce_max_ps(a); }
inline float f_smallest(F a) { return _mm512_reduce_min_ps(a); }
/// Lane i is 2^x[i] for whole x in -126 .. 127, and 0 for -127.
inline F f_exp2i(F x) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(127)), 23));
}
/// The Hadamard transform of order 16 of the lanes.
inline F f_hadamard16(F x) {
  const F n = f_set(-0.0F);
  const auto level = [n](F all, F partner, __mmask16 negated) {
    return _mm512_add_ps(_mm512_mask_xor_ps(all, negated, all, n), partner);
  };
  x = level(x, _mm512_permute_ps(x, 0xb1), 0xaaaa);
  x = level(x, _mm512_permute_ps(x, 0x4e), 0xcccc);
  x = level(x, _mm512_shuffle_f32x4(x, x, 0xb1), 0xf0f0);
  return level(x, _mm512_shuffle_f32x4(x, x, 0x4e), 0xff00);
}
inline F f_load_f16(const std::uint16_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline F f_load_bf16(const std::uint16_t* p) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))), 16));
}
/// 16 pairs of bf16: the even ones and the odd ones.
inline F f_even_bf16(const void* p) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_loadu_si512(p), 16)); }
inline F f_odd_bf16(const void* p) {
  return _mm512_castsi512_ps(_mm512_and_si512(_mm512_loadu_si512(p), _mm512_set1_epi32(-65536)));
}

inline I i_zero() { return _mm512_setzero_si512(); }
inline I i_set(std::int32_t x) { return _mm512_set1_epi32(x); }
inline I i_load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
inline void i_store(std::int32_t* p, I x) { _mm512_storeu_si512(p, x); }
inline I i_add(I a, I b) { return _mm512_add_epi32(a, b); }
inline I i_sub(I a, I b) { return _mm512_sub_epi32(a, b); }
inline I i_mul(I a, I b) { return _mm512_mullo_epi32(a, b); }
inline I i_and(I a, I b) { return _mm512_and_si512(a, b); }
/// 16 unsigned bytes.
inline I i_load_bytes(const std::uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
/// -1 in the first n of 16 lanes, 0 in the others.
inline I i_mask(std::int64_t n) { return _mm512_maskz_set1_epi32(static_cast<__mmask16>((1U << n) - 1U), -1); }
inline I i_max(I a, I b) { return _mm512_max_epi32(a, b); }
inline I i_min(I a, I b) { return _mm512_min_epi32(a, b); }
template <int N>
inline I i_shift_left(I a) {
  return _mm512_slli_epi32(a, N);
}
/// Arithmetic.
template <int N>
inline I i_shift_right(I a) {
  return _mm512_srai_epi32(a, N);
}
inline std::int32_t i_sum(I a) { return _mm512_reduce_add_epi32(a); }
inline std::int32_t i_largest(I a) { return _mm512_reduce_max_epi32(a); }
/// The bits of every lane.
inline I i_bits(F a) { return _mm512_castps_si512(a); }
inline F f_from_i(I a) { return _mm512_cvtepi32_ps(a); }
/// To the nearest, ties to even.
inline I i_from_f(F a) { return _mm512_cvtps_epi32(a); }
/// The low bytes of 16 lanes.
inline void i_store_bytes(std::int8_t* p, I x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(x));
}

inline B b_load(const void* p) { return _mm512_loadu_si512(p); }
inline void b_store(void* p, B x) { _mm512_storeu_si512(p, x); }
inline B b_set(std::uint8_t x) { return _mm512_set1_epi8(static_cast<char>(x)); }
inline B b_add(B a, B b) { return _mm512_add_epi8(a, b); }
inline B b_sub(B a, B b) { return _mm512_sub_epi8(a, b); }
inline B b_and(B a, B b) { return _mm512_and_si512(a, b); }
inline B b_or(B a, B b) { return _mm512_or_si512(a, b); }
/// Shifts 16-bit units: bits of the upper byte run into the lower one, so mask what is not wanted.
template <int N>
inline B b_shift_right(B a) {
  return _mm512_srli_epi16(a, N);
}
template <int N>
inline B b_shift_left(B a) {
  return _mm512_slli_epi16(a, N);
}
/// Four bytes at p in every lane.
inline B b_broadcast4(const void* p) {
  std::int32_t quad;
  __builtin_memcpy(&quad, p, 4);
  return _mm512_set1_epi32(quad);
}
/// 16 bytes, each in all four bytes of its lane.
inline B b_spread(const std::uint8_t* p) {
  return _mm512_shuffle_epi8(i_load_bytes(p), _mm512_set4_epi32(0x0c0c0c0c, 0x08080808, 0x04040404, 0));
}
/// Bytes that are the same in all of a lane, as b_multiply takes them.
inline B b_factor(B spread) { return _mm512_and_si512(spread, _mm512_set1_epi16(0xff)); }
/// Products of bytes, none of which is above 255.
inline B b_multiply(B bytes, B factor) { return _mm512_mullo_epi16(bytes, factor); }
/// acc[lane] += sum of 4 products unsigned * signed, exact.
inline I dot(I acc, B unsigned_bytes, B signed_bytes) { return _mm512_dpbusd_epi32(acc, unsigned_bytes, signed_bytes); }

#ifdef PQ_BF16_DOT
/// acc[lane] += sum of 2 products of bf16.
inline F dot_bf16(F acc, B a, B b) {
  return _mm512_dpbf16_ps(acc, reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b));
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

}  // namespace pq::kernels::PQ_AVX512_NAMESPACE
