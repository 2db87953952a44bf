#pragma once

#include <arm_neon.h>

#include <cstdint>

// Vectors of 16 lanes, the one vocabulary of the kernels in simd/: names and meanings as in avx512/vec.h, on four
// 128-bit registers.

namespace pq::kernels::neon {

struct F {
  float32x4_t val[4];
};
struct I {
  int32x4_t val[4];
};
struct B {
  uint8x16_t val[4];
};

inline constexpr int tile_rows = 4;
inline constexpr int tile_panels = 1;
inline constexpr int hadamard_radix = 4;

template <typename Of>
inline F f_make(Of of) {
  return {{of(0), of(1), of(2), of(3)}};
}
template <typename Of>
inline I i_make(Of of) {
  return {{of(0), of(1), of(2), of(3)}};
}
template <typename Of>
inline B b_make(Of of) {
  return {{of(0), of(1), of(2), of(3)}};
}

inline F f_set(float x) {
  const float32x4_t all = vdupq_n_f32(x);
  return {{all, all, all, all}};
}
inline F f_zero() { return f_set(0); }
inline F f_load(const float* p) {
  return f_make([p](int i) { return vld1q_f32(p + 4 * i); });
}
inline void f_store(float* p, F x) {
  for (int i = 0; i < 4; ++i) vst1q_f32(p + 4 * i, x.val[i]);
}
inline F f_load_n(const float* p, std::int64_t n) {
  float values[16] = {};
  for (std::int64_t i = 0; i < n; ++i) values[i] = p[i];
  return f_load(values);
}
inline void f_store_n(float* p, F x, std::int64_t n) {
  float values[16];
  f_store(values, x);
  for (std::int64_t i = 0; i < n; ++i) p[i] = values[i];
}
inline F f_add(F a, F b) {
  return f_make([&](int i) { return vaddq_f32(a.val[i], b.val[i]); });
}
inline F f_sub(F a, F b) {
  return f_make([&](int i) { return vsubq_f32(a.val[i], b.val[i]); });
}
inline F f_mul(F a, F b) {
  return f_make([&](int i) { return vmulq_f32(a.val[i], b.val[i]); });
}
inline F f_div(F a, F b) {
  return f_make([&](int i) { return vdivq_f32(a.val[i], b.val[i]); });
}
inline F f_fma(F a, F b, F c) {
  return f_make([&](int i) { return vfmaq_f32(c.val[i], a.val[i], b.val[i]); });
}
inline F f_fnma(F a, F b, F c) {
  return f_make([&](int i) { return vfmsq_f32(c.val[i], a.val[i], b.val[i]); });
}
inline F f_max(F a, F b) {
  return f_make([&](int i) { return vmaxq_f32(a.val[i], b.val[i]); });
}
inline F f_min(F a, F b) {
  return f_make([&](int i) { return vminq_f32(a.val[i], b.val[i]); });
}
inline F f_abs(F a) {
  return f_make([&](int i) { return vabsq_f32(a.val[i]); });
}
inline F f_round(F a) {
  return f_make([&](int i) { return vrndnq_f32(a.val[i]); });
}
inline F f_nan_to_zero(F a) {
  return f_make([&](int i) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(a.val[i]), vceqq_f32(a.val[i], a.val[i])));
  });
}
inline bool f_all_below(F a, F b) {
  const uint32x4_t low = vandq_u32(vcltq_f32(a.val[0], b.val[0]), vcltq_f32(a.val[1], b.val[1]));
  const uint32x4_t high = vandq_u32(vcltq_f32(a.val[2], b.val[2]), vcltq_f32(a.val[3], b.val[3]));
  return vminvq_u32(vandq_u32(low, high)) != 0;
}
inline float f_first(F a) { return vgetq_lane_f32(a.val[0], 0); }
inline float f_sum(F a) { return vaddvq_f32(vaddq_f32(vaddq_f32(a.val[0], a.val[1]), vaddq_f32(a.val[2], a.val[3]))); }
inline float f_largest(F a) {
  return vmaxvq_f32(vmaxq_f32(vmaxq_f32(a.val[0], a.val[1]), vmaxq_f32(a.val[2], a.val[3])));
}
inline float f_smallest(F a) {
  return vminvq_f32(vminq_f32(vminq_f32(a.val[0], a.val[1]), vminq_f32(a.val[2], a.val[3])));
}
inline F f_exp2i(F x) {
  return f_make([&](int i) {
    return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(vcvtnq_s32_f32(x.val[i]), vdupq_n_s32(127)), 23));
  });
}

/// x[i] + x[i ^ 1] in the even lanes and x[i ^ 1] - x[i] in the odd ones, then the same for pairs.
inline float32x4_t f_hadamard4(float32x4_t x) {
  const float32x4_t even = vtrn1q_f32(x, x);
  const float32x4_t odd = vtrn2q_f32(x, x);
  const float32x4_t y = vtrn1q_f32(vaddq_f32(even, odd), vsubq_f32(even, odd));
  const float32x4_t low = vcombine_f32(vget_low_f32(y), vget_low_f32(y));
  const float32x4_t high = vcombine_f32(vget_high_f32(y), vget_high_f32(y));
  return vcombine_f32(vget_low_f32(vaddq_f32(low, high)), vget_low_f32(vsubq_f32(low, high)));
}
inline F f_hadamard16(F x) {
  const F y = f_make([&](int i) { return f_hadamard4(x.val[i]); });
  const float32x4_t a = vaddq_f32(y.val[0], y.val[1]);
  const float32x4_t b = vsubq_f32(y.val[0], y.val[1]);
  const float32x4_t c = vaddq_f32(y.val[2], y.val[3]);
  const float32x4_t d = vsubq_f32(y.val[2], y.val[3]);
  return {{vaddq_f32(a, c), vaddq_f32(b, d), vsubq_f32(a, c), vsubq_f32(b, d)}};
}

inline F f_load_f16(const std::uint16_t* p) {
  return f_make([p](int i) { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p + 4 * i))); });
}
inline F f_load_bf16(const std::uint16_t* p) {
  return f_make([p](int i) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p + 4 * i), 16)); });
}
inline F f_even_bf16(const void* p) {
  const auto* words = static_cast<const std::uint32_t*>(p);
  return f_make([words](int i) { return vreinterpretq_f32_u32(vshlq_n_u32(vld1q_u32(words + 4 * i), 16)); });
}
inline F f_odd_bf16(const void* p) {
  const auto* words = static_cast<const std::uint32_t*>(p);
  return f_make(
      [words](int i) { return vreinterpretq_f32_u32(vandq_u32(vld1q_u32(words + 4 * i), vdupq_n_u32(0xffff0000U))); });
}

inline I i_set(std::int32_t x) {
  const int32x4_t all = vdupq_n_s32(x);
  return {{all, all, all, all}};
}
inline I i_zero() { return i_set(0); }
inline I i_load(const std::int32_t* p) {
  return i_make([p](int i) { return vld1q_s32(p + 4 * i); });
}
inline I i_load_bytes(const std::uint8_t* p) {
  const uint8x16_t bytes = vld1q_u8(p);
  const uint16x8_t words[2] = {vmovl_u8(vget_low_u8(bytes)), vmovl_u8(vget_high_u8(bytes))};
  return i_make([&](int i) {
    const uint16x8_t half = words[i / 2];
    return vreinterpretq_s32_u32(vmovl_u16(i % 2 == 0 ? vget_low_u16(half) : vget_high_u16(half)));
  });
}
inline void i_store(std::int32_t* p, I x) {
  for (int i = 0; i < 4; ++i) vst1q_s32(p + 4 * i, x.val[i]);
}
inline I i_add(I a, I b) {
  return i_make([&](int i) { return vaddq_s32(a.val[i], b.val[i]); });
}
inline I i_sub(I a, I b) {
  return i_make([&](int i) { return vsubq_s32(a.val[i], b.val[i]); });
}
inline I i_mul(I a, I b) {
  return i_make([&](int i) { return vmulq_s32(a.val[i], b.val[i]); });
}
inline I i_and(I a, I b) {
  return i_make([&](int i) { return vandq_s32(a.val[i], b.val[i]); });
}
inline I i_max(I a, I b) {
  return i_make([&](int i) { return vmaxq_s32(a.val[i], b.val[i]); });
}
inline I i_min(I a, I b) {
  return i_make([&](int i) { return vminq_s32(a.val[i], b.val[i]); });
}
inline I i_mask(std::int64_t n) {
  const std::int32_t first[4] = {0, 1, 2, 3};
  const int32x4_t lanes = vld1q_s32(first);
  return i_make([&](int i) {
    return vreinterpretq_s32_u32(vcltq_s32(lanes, vdupq_n_s32(static_cast<std::int32_t>(n) - 4 * i)));
  });
}
template <int N>
inline I i_shift_left(I a) {
  return i_make([&](int i) { return vshlq_n_s32(a.val[i], N); });
}
template <int N>
inline I i_shift_right(I a) {
  return i_make([&](int i) { return vshrq_n_s32(a.val[i], N); });
}
inline std::int32_t i_sum(I a) {
  return vaddvq_s32(vaddq_s32(vaddq_s32(a.val[0], a.val[1]), vaddq_s32(a.val[2], a.val[3])));
}
inline std::int32_t i_largest(I a) {
  return vmaxvq_s32(vmaxq_s32(vmaxq_s32(a.val[0], a.val[1]), vmaxq_s32(a.val[2], a.val[3])));
}
inline I i_bits(F a) {
  return i_make([&](int i) { return vreinterpretq_s32_f32(a.val[i]); });
}
inline F f_from_i(I a) {
  return f_make([&](int i) { return vcvtq_f32_s32(a.val[i]); });
}
inline I i_from_f(F a) {
  return i_make([&](int i) { return vcvtnq_s32_f32(a.val[i]); });
}
inline void i_store_bytes(std::int8_t* p, I x) {
  const int16x8_t low = vcombine_s16(vmovn_s32(x.val[0]), vmovn_s32(x.val[1]));
  const int16x8_t high = vcombine_s16(vmovn_s32(x.val[2]), vmovn_s32(x.val[3]));
  vst1q_s8(p, vcombine_s8(vmovn_s16(low), vmovn_s16(high)));
}

inline B b_load(const void* p) {
  const auto* bytes = static_cast<const std::uint8_t*>(p);
  return b_make([bytes](int i) { return vld1q_u8(bytes + 16 * i); });
}
inline void b_store(void* p, B x) {
  for (int i = 0; i < 4; ++i) vst1q_u8(static_cast<std::uint8_t*>(p) + 16 * i, x.val[i]);
}
inline B b_set(std::uint8_t x) {
  const uint8x16_t all = vdupq_n_u8(x);
  return {{all, all, all, all}};
}
inline B b_add(B a, B b) {
  return b_make([&](int i) { return vaddq_u8(a.val[i], b.val[i]); });
}
inline B b_sub(B a, B b) {
  return b_make([&](int i) { return vsubq_u8(a.val[i], b.val[i]); });
}
inline B b_and(B a, B b) {
  return b_make([&](int i) { return vandq_u8(a.val[i], b.val[i]); });
}
inline B b_or(B a, B b) {
  return b_make([&](int i) { return vorrq_u8(a.val[i], b.val[i]); });
}
template <int N>
inline B b_shift_right(B a) {
  return b_make([&](int i) { return vreinterpretq_u8_u16(vshrq_n_u16(vreinterpretq_u16_u8(a.val[i]), N)); });
}
template <int N>
inline B b_shift_left(B a) {
  return b_make([&](int i) { return vreinterpretq_u8_u16(vshlq_n_u16(vreinterpretq_u16_u8(a.val[i]), N)); });
}
inline B b_broadcast4(const void* p) {
  std::uint32_t quad;
  __builtin_memcpy(&quad, p, 4);
  const uint8x16_t all = vreinterpretq_u8_u32(vdupq_n_u32(quad));
  return {{all, all, all, all}};
}
inline B b_spread(const std::uint8_t* p) {
  const std::uint8_t first[16] = {0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3};
  const uint8x16_t bytes = vld1q_u8(p);
  const uint8x16_t lanes = vld1q_u8(first);
  return b_make(
      [&](int i) { return vqtbl1q_u8(bytes, vaddq_u8(lanes, vdupq_n_u8(static_cast<std::uint8_t>(4 * i)))); });
}
inline B b_factor(B spread) { return spread; }
inline B b_multiply(B bytes, B factor) {
  return b_make([&](int i) { return vmulq_u8(bytes.val[i], factor.val[i]); });
}
/// sdot multiplies signed bytes: u * s = (u - 128) * s + 64 * s + 64 * s, every factor a signed byte.
inline I dot(I acc, B unsigned_bytes, B signed_bytes) {
  const uint8x16_t top = vdupq_n_u8(0x80);
  const int8x16_t half = vdupq_n_s8(64);
  return i_make([&](int i) {
    const int8x16_t s = vreinterpretq_s8_u8(signed_bytes.val[i]);
    const int8x16_t centred = vreinterpretq_s8_u8(veorq_u8(unsigned_bytes.val[i], top));
    return vdotq_s32(vdotq_s32(vdotq_s32(acc.val[i], centred, s), half, s), half, s);
  });
}

template <int Ahead>
inline void prefetch(const void* p) {
  __builtin_prefetch(static_cast<const char*>(p) + Ahead);
}
/// To the second cache only.
template <int Ahead>
inline void prefetch_far(const void* p) {
  __builtin_prefetch(static_cast<const char*>(p) + Ahead, 0, 2);
}

}  // namespace pq::kernels::neon
