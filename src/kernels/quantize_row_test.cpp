#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/test_tables.h"
#include "numerics/quantize.h"

namespace pq::kernels {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

struct Quantized {
  std::vector<std::int8_t> codes;  ///< plane 0, then plane 1
  std::vector<std::int32_t> scale_bits;
  std::vector<std::int32_t> zero;
  std::vector<std::int32_t> sum;
  bool operator==(const Quantized&) const = default;
};

/// Bits of a scale; one pattern for all NaNs.
std::int32_t bits_of(float scale) { return std::isnan(scale) ? -1 : std::bit_cast<std::int32_t>(scale); }

std::int64_t padded_to(std::int64_t n, std::int64_t step) { return (n + step - 1) / step * step; }

QuantizeRow spec_of(std::int64_t columns, ScaleKind kind, int bits, bool symmetric, int planes = 1,
                    std::int64_t segment = 0) {
  QuantizeRow spec{};
  spec.kind = kind;
  spec.planes = planes;
  spec.bits = bits;
  spec.symmetric = symmetric;
  spec.scale = 0.037F;
  spec.zero = symmetric ? 0 : 3;
  spec.gamma = 0.9F;
  spec.beta = 0.95F;
  spec.columns = columns;
  spec.padded = padded_to(columns, column_block);
  spec.segment = segment == 0 ? spec.padded : segment;
  spec.segments = (spec.padded + spec.segment - 1) / spec.segment;
  return spec;
}

template <typename Run>
Quantized run(const QuantizeRow& spec, Run&& kernel) {
  Guarded<std::int8_t> codes(spec.padded * spec.planes);
  Guarded<float> scale(spec.segments);
  Guarded<std::int32_t> zero(spec.segments);
  Guarded<std::int32_t> sum(spec.segments);
  std::fill_n(codes.data(), codes.size(), std::int8_t{77});
  kernel(QuantizedRow{codes.data(), spec.padded, scale.data(), zero.data(), sum.data()});
  EXPECT_TRUE(codes.untouched_around() && scale.untouched_around() && zero.untouched_around() &&
              sum.untouched_around());
  Quantized result{codes.values(), {}, zero.values(), sum.values()};
  for (const float s : scale.values()) result.scale_bits.push_back(bits_of(s));
  return result;
}

Quantized run(const KernelTable& table, const std::vector<float>& x, const QuantizeRow& spec) {
  Guarded<float> row(x, 1);
  return run(spec, [&](const QuantizedRow& out) { table.quantize_row(row.data(), spec, out); });
}

using Rounding = float (*)(float x, float scale);
float as_defined(float x, float scale) { return std::nearbyint(x / scale); }
float half_away(float x, float scale) { return std::round(x / scale); }
float by_reciprocal(float x, float scale) { return std::nearbyint(x * (1.0F / scale)); }

/// The codes by numerics/quantize.h alone, for one plane; with another rounding than it defines, a broken variant.
Quantized expected(const std::vector<float>& x, const QuantizeRow& spec, Rounding rounding = as_defined) {
  Quantized result{std::vector<std::int8_t>(static_cast<std::size_t>(spec.padded), 0), {}, {}, {}};
  const QuantRange range = quant_range(spec.bits, spec.symmetric);
  const std::int32_t lowered = spec.symmetric ? 0 : 1 << (spec.bits - 1);
  for (std::int64_t g = 0; g < spec.segments; ++g) {
    const auto begin = static_cast<std::size_t>(std::min(g * spec.segment, spec.columns));
    const auto end = static_cast<std::size_t>(std::min((g + 1) * spec.segment, spec.columns));
    std::span<const float> of_scale(x.data(), x.size());
    if (spec.kind == ScaleKind::segment) of_scale = of_scale.subspan(begin, end - begin);
    AffineParams params{spec.scale, spec.zero};
    if (spec.kind != ScaleKind::fixed && spec.symmetric) {
      params = {symmetric_scale(max_abs(of_scale), spec.gamma, spec.bits), 0};
    } else if (spec.kind != ScaleKind::fixed) {
      const MinMax bounds = min_max(of_scale);
      params = affine_params(bounds.min, bounds.max, spec.beta, spec.gamma, spec.bits);
    }
    std::int32_t sum = 0;
    for (std::size_t i = begin; i < end; ++i) {
      const float steps = rounding(x[i], params.scale);
      const std::int32_t code = rounding == as_defined ? quantize(x[i], params.scale, params.zero_point, range)
                                                       : quantize(steps, 1.0F, params.zero_point, range);
      result.codes[i] = static_cast<std::int8_t>(code - lowered);
      sum += result.codes[i];
    }
    result.scale_bits.push_back(bits_of(params.scale));
    result.zero.push_back(params.zero_point - lowered);
    result.sum.push_back(sum);
  }
  return result;
}

/// What is hard to round right: ties and their neighbours, for `scale`.
std::vector<float> around_ties(float scale, std::int64_t n, int levels) {
  std::vector<float> x(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const int level = static_cast<int>(i / 3) % (2 * levels) - levels;
    const float tie = (static_cast<float>(level) + 0.5F) * scale;
    x[i] = i % 3 == 0 ? tie : std::nextafter(tie, i % 3 == 1 ? infinity : -infinity);
  }
  return x;
}

using QuantizeRowKernel = TableTest;

TEST_P(QuantizeRowKernel, equals_numerics_for_every_length_and_kind) {
  for (const std::int64_t n : row_lengths()) {
    const std::vector<float> x = activations_like(n, static_cast<unsigned>(n));
    for (const int bits : {2, 4, 7, 8}) {
      for (const bool symmetric : {true, false}) {
        for (const ScaleKind kind : {ScaleKind::fixed, ScaleKind::row, ScaleKind::segment}) {
          for (const std::int64_t segment : {std::int64_t{0}, std::int64_t{32}, std::int64_t{128}}) {
            const QuantizeRow spec = spec_of(n, kind, bits, symmetric, 1, segment);
            ASSERT_EQ(run(table(), x, spec), expected(x, spec))
                << n << " columns, " << bits << " bits, symmetric " << symmetric << ", kind " << static_cast<int>(kind)
                << ", segment " << segment;
          }
        }
      }
    }
  }
}

TEST_P(QuantizeRowKernel, rounds_ties_and_their_neighbours_as_defined) {
  int reciprocals_that_fail = 0;
  int half_aways_that_fail = 0;
  for (const float scale : {0.037F, 0.1F, 1.0F / 3, 0.25F, 7.3e-5F, 1.7e-20F, 3.1e30F, 1e-42F, 2.5e38F}) {
    for (const bool symmetric : {true, false}) {
      for (const std::int32_t zero : {0, 128, -900, 1021, 1024, 32767, -32767}) {
        QuantizeRow spec = spec_of(1000, ScaleKind::fixed, 8, symmetric);
        if (symmetric && zero != 0) continue;
        spec.scale = scale;
        spec.zero = zero;
        const std::vector<float> x = around_ties(scale, spec.columns, 140);
        const Quantized result = run(table(), x, spec);
        ASSERT_EQ(result, expected(x, spec)) << "scale " << scale << ", zero " << zero;
        reciprocals_that_fail += result != expected(x, spec, by_reciprocal);
        half_aways_that_fail += result != expected(x, spec, half_away);
      }
    }
  }
  EXPECT_GT(reciprocals_that_fail, 0) << "a kernel that multiplied by a reciprocal would have passed";
  EXPECT_GT(half_aways_that_fail, 0) << "a kernel that rounded halves away from zero would have passed";
}

TEST_P(QuantizeRowKernel, treats_zeros_subnormals_and_what_is_not_finite_as_defined) {
  const float smallest = std::numeric_limits<float>::denorm_min();
  const float largest = std::numeric_limits<float>::max();
  std::vector<std::vector<float>> rows;
  for (const std::int64_t n : {1, 15, 16, 17, 40, 100}) {
    const auto size = static_cast<std::size_t>(n);
    for (const float constant : {0.0F, -0.0F, smallest, -smallest, 3e-41F, 1e-38F, 5.0F, -5.0F, largest, -largest,
                                 infinity, -infinity, not_a_number}) {
      rows.emplace_back(size, constant);
      for (const std::size_t at : {std::size_t{0}, size / 2, size - 1}) {
        for (const float spread : {1.0F, 1e-41F, 1e37F}) {
          rows.push_back(activations_like(n, 5, spread));
          rows.back()[at] = constant;
        }
      }
    }
    rows.push_back(activations_like(n, 6));
    for (float& value : rows.back()) value = std::fabs(value) + 1000;  // far from zero: a zero point out of range
  }
  for (const std::vector<float>& x : rows) {
    for (const int bits : {4, 8}) {
      for (const bool symmetric : {true, false}) {
        for (const ScaleKind kind : {ScaleKind::fixed, ScaleKind::row, ScaleKind::segment}) {
          const QuantizeRow spec = spec_of(static_cast<std::int64_t>(x.size()), kind, bits, symmetric, 1, 32);
          ASSERT_EQ(run(table(), x, spec), expected(x, spec))
              << testing::PrintToString(x) << ' ' << bits << ' ' << symmetric << ' ' << static_cast<int>(kind);
        }
      }
    }
  }
}

TEST_P(QuantizeRowKernel, keeps_sixteen_bits_in_two_planes) {
  for (const std::int64_t n : row_lengths()) {
    for (const float spread : {1.0F, 1e-41F, 0.0F}) {
      const std::vector<float> x = activations_like(n, static_cast<unsigned>(n) + 9, spread);
      for (const ScaleKind kind : {ScaleKind::row, ScaleKind::segment}) {
        const QuantizeRow spec = spec_of(n, kind, 0, true, 2, 64);
        const Quantized result = run(table(), x, spec);
        ASSERT_EQ(result, run(definition(), x, spec)) << n;
        for (std::int64_t g = 0; g < spec.segments; ++g) {
          const std::int64_t begin = kind == ScaleKind::row ? 0 : g * spec.segment;
          const std::int64_t end = kind == ScaleKind::row ? n : std::min(n, begin + spec.segment);
          const float most =
              max_abs({x.data() + begin, static_cast<std::size_t>(std::max(end - begin, std::int64_t{0}))});
          float scale = most / static_cast<float>(wide_code_max);
          if (scale == 0) scale = 1;
          ASSERT_EQ(result.scale_bits[static_cast<std::size_t>(g)], bits_of(scale));
          ASSERT_EQ(result.zero[static_cast<std::size_t>(g)], 0);
          std::int32_t sum = 0;
          for (std::int64_t i = g * spec.segment; i < std::min(spec.padded, (g + 1) * spec.segment); ++i) {
            const auto at = static_cast<std::size_t>(i);
            const std::int32_t code = 256 * result.codes[at + static_cast<std::size_t>(spec.padded)] + result.codes[at];
            const std::int32_t wanted =
                i < n ? quantize(x[at], scale, 0, {-wide_code_max, wide_code_max}) : std::int32_t{0};
            ASSERT_EQ(code, wanted);
            sum += code;
          }
          ASSERT_EQ(result.sum[static_cast<std::size_t>(g)], sum);
        }
      }
    }
  }
}

TEST_P(QuantizeRowKernel, fused_with_the_norm_gives_the_codes_of_the_two_steps) {
  for (const std::int64_t n : row_lengths()) {
    Guarded<float> x(activations_like(n, static_cast<unsigned>(n) + 31), 1);
    Guarded<float> gamma(activations_like(n, 77));
    for (const ScaleKind kind : {ScaleKind::fixed, ScaleKind::row, ScaleKind::segment}) {
      for (const bool symmetric : {true, false}) {
        const QuantizeRow spec = spec_of(n, kind, 8, symmetric, 1, 64);
        Guarded<float> normalized(n);
        Guarded<float> scratch(spec.padded);
        table().rms_norm(x.data(), gamma.data(), 1e-5F, n, normalized.data());
        const Quantized fused = run(spec, [&](const QuantizedRow& out) {
          table().norm_quantize(x.data(), gamma.data(), 1e-5F, spec, out, scratch.data());
        });
        ASSERT_EQ(fused, run(table(), normalized.values(), spec)) << n;
        ASSERT_TRUE(scratch.untouched_around());
      }
    }
  }
}

TEST_P(QuantizeRowKernel, finds_smallest_and_largest) {
  for (const std::int64_t n : row_lengths()) {
    const std::vector<float> values = activations_like(n, static_cast<unsigned>(n) + 2);
    for (const float special : {0.0F, infinity, -infinity, not_a_number, 1e30F, -1e30F}) {
      for (const std::int64_t at : {std::int64_t{0}, n / 2, n - 1}) {
        for (const float shift : {0.0F, 1e4F, -1e4F}) {
          Guarded<float> x(values, 3);
          for (std::int64_t i = 0; i < n; ++i) x[i] += shift;
          if (special != 0) x[at] = special;
          const MinMax wanted = min_max({x.data(), static_cast<std::size_t>(n)});
          float min = 0;
          float max = 0;
          table().min_max(x.data(), n, &min, &max);
          if (std::isnan(wanted.min)) {
            ASSERT_TRUE(std::isnan(min) && std::isnan(max)) << n;
          } else {
            ASSERT_EQ(min, wanted.min) << n;
            ASSERT_EQ(max, wanted.max) << n;
          }
        }
      }
    }
  }
}

PQ_FOR_EVERY_TABLE(QuantizeRowKernel);

}  // namespace
}  // namespace pq::kernels
