// Rows of activations to codes, on the vocabulary of vec.h. Included inside the namespace of one instruction set, after
// rows.inl. Codes equal those of numerics/quantize.h bit for bit.

/// Smallest and largest so far. A NaN is carried as the largest magnitude, by its bits: comparisons drop it.
struct Bounds {
  F min;
  F max;
  I magnitude;
};

inline Bounds bounds_start(float x) { return {f_set(x), f_set(x), i_zero()}; }

inline void bounds_add(Bounds& bounds, F x) {
  bounds.min = f_min(bounds.min, x);
  bounds.max = f_max(bounds.max, x);
  bounds.magnitude = i_max(bounds.magnitude, i_bits(f_abs(x)));
}

inline void bounds_of(const Bounds& bounds, float* min, float* max) {
  const std::int32_t magnitude = i_largest(bounds.magnitude);
  if (magnitude > 0x7f800000) {
    __builtin_memcpy(min, &magnitude, 4);
    *max = *min;
    return;
  }
  *min = f_smallest(bounds.min);
  *max = f_largest(bounds.max);
}

inline void min_max(const float* x, std::int64_t n, float* min, float* max) noexcept {
  // Two chains hide the latency; the rest overlaps what was seen, so that no lane holds a value that is not there.
  if (n < 16) {
    Bounds bounds = bounds_start(x[0]);
    for (std::int64_t i = 0; i < n; ++i) bounds_add(bounds, f_set(x[i]));
    return bounds_of(bounds, min, max);
  }
  Bounds bounds = bounds_start(x[0]);
  Bounds second = bounds;
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    bounds_add(bounds, f_load(x + i));
    bounds_add(second, f_load(x + i + 16));
  }
  if (i + 16 <= n) bounds_add(bounds, f_load(x + i));
  bounds_add(second, f_load(x + n - 16));
  bounds.min = f_min(bounds.min, second.min);
  bounds.max = f_max(bounds.max, second.max);
  bounds.magnitude = i_max(bounds.magnitude, second.magnitude);
  bounds_of(bounds, min, max);
}

/// x / scale to the nearest integer, ties to even, clamped. The quotient is a true division's; but a division takes
/// several times as long as all the rest, so where multiplying by the reciprocal cannot have landed on the other side
/// of a tie, its product is rounded instead.
struct Rounding {
  F scale;
  F reciprocal;
  F low;  ///< of code - zero
  F high;
  F certain;  ///< distance from the nearest integer below which the product decides; 0: never
};

inline Rounding rounding_of(const RowScale& scale) {
  const auto low = static_cast<float>(scale.low - scale.zero);
  const auto high = static_cast<float>(scale.high - scale.zero);
  const float reach = -low > high ? -low : high;
  // The product's error is below 1.5 * 2^-23 of it, the rounded quotient's below 2^-24. Codes of 8 bits leave nearly
  // all products certain. Outside these scales the reciprocal may be subnormal or infinite.
  const bool usable = reach < 1024.0F && scale.scale > 0x1p-100F && scale.scale < 0x1p100F;
  return {f_set(scale.scale), f_set(usable ? 1.0F / scale.scale : 0.0F), f_set(low), f_set(high),
          f_set(usable ? 0.5F - reach * 0x1p-21F : 0.0F)};
}

inline I rounded(F x, const Rounding& rounding) {
  // Clamped before it is rounded: the ends are integers, so that what lies beyond is as certain as they are. In this
  // order of arguments a NaN passes through on every processor, and is not certain.
  const F product = f_max(rounding.low, f_min(rounding.high, f_mul(x, rounding.reciprocal)));
  F steps = f_round(product);
  if (!f_all_below(f_abs(f_sub(product, steps)), rounding.certain)) {
    steps = f_nan_to_zero(f_round(f_div(x, rounding.scale)));
    steps = f_min(f_max(steps, rounding.low), rounding.high);
  }
  return i_from_f(steps);
}

/// Stores 16 stored codes: of one plane or of both.
template <int Planes>
inline void store_codes(std::int8_t* codes, std::int64_t plane_stride, I stored) {
  i_store_bytes(codes, stored);  // of a 16-bit code the low byte, read as a signed one
  if constexpr (Planes == 2) i_store_bytes(codes + plane_stride, i_shift_right<8>(i_add(stored, i_set(128))));
}

/// Codes of x[n], then zeros up to `padded` (a multiple of 16); returns the sum of the codes.
template <int Planes>
inline std::int32_t quantize_slice(const float* x, std::int64_t n, std::int64_t padded, const RowScale& scale,
                                   std::int8_t* codes, std::int64_t plane_stride) {
  const Rounding rounding = rounding_of(scale);
  const I offset = i_set(scale.zero - scale.lowered);
  I sums = i_zero();
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const I stored = i_add(rounded(f_load(x + i), rounding), offset);
    sums = i_add(sums, stored);
    store_codes<Planes>(codes + i, plane_stride, stored);
  }
  if (i < n) {
    const I stored = i_and(i_add(rounded(f_load_n(x + i, n - i), rounding), offset), i_mask(n - i));
    sums = i_add(sums, stored);
    store_codes<Planes>(codes + i, plane_stride, stored);
    i += 16;
  }
  for (; i < padded; i += 16) store_codes<Planes>(codes + i, plane_stride, i_zero());
  return i_sum(sums);
}

/// The segments of a row that has one scale, given its bounds; or each with its own.
inline void quantize_segments(const float* x, const QuantizeRow& spec, RowScale scale, const QuantizedRow& out) {
  for (std::int64_t segment = 0; segment < spec.segments; ++segment) {
    const std::int64_t first = segment * spec.segment;
    const std::int64_t left = spec.padded - first;
    const std::int64_t padded = left < spec.segment ? left : spec.segment;
    std::int64_t n = spec.columns - first;
    n = n < 0 ? 0 : n > padded ? padded : n;
    if (spec.kind == ScaleKind::segment) {
      float min = 0;
      float max = 0;
      if (n > 0) min_max(x + first, n, &min, &max);
      scale = row_scale(spec, min, max);
    }
    out.scale[segment] = scale.scale;
    out.zero[segment] = scale.zero - scale.lowered;
    out.sum[segment] = spec.planes == 2
                           ? quantize_slice<2>(x + first, n, padded, scale, out.codes + first, out.plane_stride)
                           : quantize_slice<1>(x + first, n, padded, scale, out.codes + first, out.plane_stride);
  }
}

inline void quantize_row(const float* x, const QuantizeRow& spec, const QuantizedRow& out) noexcept {
  float min = 0;
  float max = 0;
  if (spec.kind == ScaleKind::row) min_max(x, spec.columns, &min, &max);
  quantize_segments(x, spec, row_scale(spec, min, max), out);
}

inline void norm_quantize(const float* x, const float* gamma, float eps, const QuantizeRow& spec,
                          const QuantizedRow& out, float* scratch) noexcept {
  const std::int64_t n = spec.columns;
  if (n < 16 || spec.kind != ScaleKind::row) {
    rms_norm(x, gamma, eps, n, scratch);
    return quantize_row(scratch, spec, out);
  }
  // The bounds on the way, while the normalized values are in registers.
  const float inverse_of_row = inverse_rms(x, eps, n);
  const F inverse = f_set(inverse_of_row);
  const auto normalized = [&](std::int64_t i) __attribute__((always_inline)) {
    return f_mul(f_mul(f_load(x + i), inverse), f_load(gamma + i));
  };
  Bounds bounds = bounds_start(x[0] * inverse_of_row * gamma[0]);
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const F values = normalized(i);
    bounds_add(bounds, values);
    f_store(scratch + i, values);
  }
  if (i < n) {
    const F values = normalized(n - 16);
    bounds_add(bounds, values);
    f_store(scratch + n - 16, values);
  }
  float min = 0;
  float max = 0;
  bounds_of(bounds, &min, &max);
  quantize_segments(scratch, spec, row_scale(spec, min, max), out);
}
