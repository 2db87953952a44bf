#include "io/ggml_blocks.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <stdexcept>
#include <string_view>

#include "base/half.h"

namespace pq::io {
namespace {

struct GgmlType {
  std::uint32_t id;
  std::string_view name;
  std::optional<DType> dtype;
};

constexpr std::array<GgmlType, 38> ggml_types{{
    {0, "F32", DType::f32},         {1, "F16", DType::f16},         {2, "Q4_0", DType::q4_0},
    {3, "Q4_1", DType::q4_1},       {6, "Q5_0", DType::q5_0},       {7, "Q5_1", DType::q5_1},
    {8, "Q8_0", DType::q8_0},       {9, "Q8_1", std::nullopt},      {10, "Q2_K", DType::q2_k},
    {11, "Q3_K", DType::q3_k},      {12, "Q4_K", DType::q4_k},      {13, "Q5_K", DType::q5_k},
    {14, "Q6_K", DType::q6_k},      {15, "Q8_K", std::nullopt},     {16, "IQ2_XXS", std::nullopt},
    {17, "IQ2_XS", std::nullopt},   {18, "IQ3_XXS", std::nullopt},  {19, "IQ1_S", std::nullopt},
    {20, "IQ4_NL", std::nullopt},   {21, "IQ3_S", std::nullopt},    {22, "IQ2_S", std::nullopt},
    {23, "IQ4_XS", std::nullopt},   {24, "I8", DType::i8},          {25, "I16", DType::i16},
    {26, "I32", DType::i32},        {27, "I64", DType::i64},        {28, "F64", DType::f64},
    {29, "IQ1_M", std::nullopt},    {30, "BF16", DType::bf16},      {31, "Q4_0_4_4", std::nullopt},
    {32, "Q4_0_4_8", std::nullopt}, {33, "Q4_0_8_8", std::nullopt}, {34, "TQ1_0", std::nullopt},
    {35, "TQ2_0", std::nullopt},    {39, "MXFP4", std::nullopt},    {40, "NVFP4", std::nullopt},
    {41, "Q1_0", std::nullopt},     {42, "Q2_0", DType::q2_0},
}};

const GgmlType* find_type(std::uint32_t type) {
  const auto* found =
      std::find_if(ggml_types.begin(), ggml_types.end(), [&](const auto& row) { return row.id == type; });
  return found == ggml_types.end() ? nullptr : found;
}

using Bytes = const std::uint8_t*;

float half_at(Bytes bytes) {
  std::uint16_t bits;
  std::memcpy(&bits, bytes, sizeof(bits));
  return f16_to_float(bits);
}

std::uint32_t word_at(Bytes bytes) {
  std::uint32_t word;
  std::memcpy(&word, bytes, sizeof(word));
  return word;
}

int low(std::uint8_t byte) { return byte & 0x0F; }
int high(std::uint8_t byte) { return byte >> 4; }

/// 2 bits: 4 values a byte, the lowest bits first. (llama.cpp of 2026; the `gguf` package does not dequantize it.)
void q2_0(Bytes b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 64; ++i) out[i] = d * static_cast<float>((b[2 + i / 4] >> (i % 4 * 2) & 3) - 1);
}

/// 4 bits: value i in the low half of byte i, value i + 16 in the high one.
void q4_0(Bytes b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(b[2 + i]) - 8);
    out[i + 16] = d * static_cast<float>(high(b[2 + i]) - 8);
  }
}

void q4_1(Bytes b, float* out) {
  const float d = half_at(b);
  const float m = half_at(b + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * static_cast<float>(low(b[4 + i])) + m;
    out[i + 16] = d * static_cast<float>(high(b[4 + i])) + m;
  }
}

/// The fifth bit of value i is bit i of a word.
void q5_0(Bytes b, float* out) {
  const float d = half_at(b);
  const std::uint32_t fifth = word_at(b + 2);
  for (int i = 0; i < 16; ++i) {
    const int first = low(b[6 + i]) | static_cast<int>(fifth >> i & 1U) << 4;
    const int second = high(b[6 + i]) | static_cast<int>(fifth >> (i + 16) & 1U) << 4;
    out[i] = d * static_cast<float>(first - 16);
    out[i + 16] = d * static_cast<float>(second - 16);
  }
}

void q5_1(Bytes b, float* out) {
  const float d = half_at(b);
  const float m = half_at(b + 2);
  const std::uint32_t fifth = word_at(b + 4);
  for (int i = 0; i < 16; ++i) {
    const int first = low(b[8 + i]) | static_cast<int>(fifth >> i & 1U) << 4;
    const int second = high(b[8 + i]) | static_cast<int>(fifth >> (i + 16) & 1U) << 4;
    out[i] = d * static_cast<float>(first) + m;
    out[i + 16] = d * static_cast<float>(second) + m;
  }
}

void q8_0(Bytes b, float* out) {
  const float d = half_at(b);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<std::int8_t>(b[2 + i])) * d;
}

/// 16 sub-blocks of 16: scale and minimum of 4 bits each; 2 bits a value, 128 values interleaved in 32 bytes.
void q2_k(Bytes b, float* out) {
  const Bytes scales = b;
  const Bytes codes = b + 16;
  const float d = half_at(b + 80);
  const float minimum = half_at(b + 82);
  for (int i = 0; i < 256; ++i) {
    const std::uint8_t scale = scales[i / 16];
    const float dl = d * static_cast<float>(low(scale));
    const float ml = minimum * static_cast<float>(high(scale));
    const int code = codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    out[i] = dl * static_cast<float>(code) - ml;
  }
}

/// Scale of sub-block j: 4 low bits in bytes 0 to 7, 2 high bits in bytes 8 to 11.
int q3_k_scale(Bytes s, int j) {
  const int lower = j < 8 ? low(s[j]) : high(s[j - 8]);
  return (lower | (s[8 + j % 4] >> (j / 4 * 2) & 3) << 4) - 32;
}

/// 16 sub-blocks of 16; 2 bits a value as in Q2_K and a third one in a mask, where a set bit means no offset.
void q3_k(Bytes b, float* out) {
  const Bytes mask = b;
  const Bytes codes = b + 32;
  const Bytes scales = b + 96;
  const float d = half_at(b + 108);
  for (int i = 0; i < 256; ++i) {
    const float dl = d * static_cast<float>(q3_k_scale(scales, i / 16));
    const int code = codes[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
    const int offset = (mask[i % 32] >> (i / 32) & 1) != 0 ? 0 : 4;
    out[i] = dl * static_cast<float>(code - offset);
  }
}

struct ScaleMin {
  float scale;
  float minimum;
};

/// Scale and minimum, 6 bits each, of sub-block j of 8 in 12 bytes (Q4_K and Q5_K).
ScaleMin scale_min(Bytes s, int j) {
  if (j < 4) return {static_cast<float>(s[j] & 63), static_cast<float>(s[j + 4] & 63)};
  return {static_cast<float>(low(s[j + 4]) | s[j - 4] >> 6 << 4), static_cast<float>(high(s[j + 4]) | s[j] >> 6 << 4)};
}

/// 8 sub-blocks of 32; each 32 bytes hold two of them, the first in the low halves.
void q4_k(Bytes b, float* out) {
  const float d = half_at(b);
  const float dmin = half_at(b + 2);
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = scale_min(b + 4, j);
    const float dl = d * s.scale;
    const float ml = dmin * s.minimum;
    const Bytes codes = b + 16 + j / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      out[j * 32 + i] = dl * static_cast<float>(j % 2 == 0 ? low(codes[i]) : high(codes[i])) - ml;
    }
  }
}

/// As Q4_K, with the fifth bit of sub-block j in bit j of 32 bytes.
void q5_k(Bytes b, float* out) {
  const float d = half_at(b);
  const float dmin = half_at(b + 2);
  const Bytes fifth = b + 16;
  for (int j = 0; j < 8; ++j) {
    const ScaleMin s = scale_min(b + 4, j);
    const float dl = d * s.scale;
    const float ml = dmin * s.minimum;
    const Bytes codes = b + 48 + j / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      const int code = (j % 2 == 0 ? low(codes[i]) : high(codes[i])) | (fifth[i] >> j & 1) << 4;
      out[j * 32 + i] = dl * static_cast<float>(code) - ml;
    }
  }
}

/// 16 sub-blocks of 16 with 8-bit scales; 4 low bits (64 bytes for 128 values) and 2 high ones (32 bytes).
void q6_k(Bytes b, float* out) {
  const Bytes lower = b;
  const Bytes upper = b + 128;
  const Bytes scales = b + 192;
  const float d = half_at(b + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128;
    const int quarter = i % 128 / 32;
    const std::uint8_t byte = lower[half * 64 + i % 64];
    const int code = (quarter < 2 ? low(byte) : high(byte)) | (upper[half * 32 + i % 32] >> (quarter * 2) & 3) << 4;
    const float dl = d * static_cast<float>(static_cast<std::int8_t>(scales[i / 16]));
    out[i] = dl * static_cast<float>(code - 32);
  }
}

using Dequantize = void (*)(Bytes, float*);

Dequantize dequantizer(DType dtype) {
  switch (dtype) {
    case DType::q2_0:
      return q2_0;
    case DType::q4_0:
      return q4_0;
    case DType::q4_1:
      return q4_1;
    case DType::q5_0:
      return q5_0;
    case DType::q5_1:
      return q5_1;
    case DType::q8_0:
      return q8_0;
    case DType::q2_k:
      return q2_k;
    case DType::q3_k:
      return q3_k;
    case DType::q4_k:
      return q4_k;
    case DType::q5_k:
      return q5_k;
    case DType::q6_k:
      return q6_k;
    default:
      throw std::logic_error(fmt::format("{} is not a block type", dtype_name(dtype)));
  }
}

}  // namespace

std::optional<DType> dtype_of_ggml_type(std::uint32_t type) {
  const GgmlType* found = find_type(type);
  return found == nullptr ? std::nullopt : found->dtype;
}

std::optional<std::uint32_t> ggml_type_of(DType dtype) {
  const auto* found =
      std::find_if(ggml_types.begin(), ggml_types.end(), [&](const auto& row) { return row.dtype == dtype; });
  return found == ggml_types.end() ? std::nullopt : std::optional(found->id);
}

std::string ggml_type_text(std::uint32_t type) {
  const GgmlType* found = find_type(type);
  return found == nullptr ? fmt::format("{}", type) : fmt::format("{} ({})", found->name, type);
}

void dequantize_blocks(DType dtype, std::span<const std::byte> blocks, std::span<float> out) {
  const Dequantize dequantize = dequantizer(dtype);
  const std::size_t count = out.size() / dtype_block(dtype);
  if (count * dtype_block(dtype) != out.size() || count * dtype_size(dtype) != blocks.size()) {
    throw std::logic_error(
        fmt::format("{} bytes of {} are not {} values", blocks.size(), dtype_name(dtype), out.size()));
  }
  const auto* bytes = reinterpret_cast<Bytes>(blocks.data());
  for (std::size_t i = 0; i < count; ++i)
    dequantize(bytes + i * dtype_size(dtype), out.data() + i * dtype_block(dtype));
}

}  // namespace pq::io
