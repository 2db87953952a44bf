// What is done to one row at a time, on the vocabulary of vec.h: norm, RoPE, conversions. Included inside
// the namespace of one instruction set. Every loop takes 16 values at a time, and the rest with masked loads and
// stores.

/// use(first, F load(p), store(p, F)) over n values: whole vectors, then what is left.
template <typename Use>
inline __attribute__((always_inline)) void for_each_vector(std::int64_t n, Use&& use) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    use(
        i, [](const float* p) __attribute__((always_inline)) { return f_load(p); },
        [](float* p, F x) __attribute__((always_inline)) { f_store(p, x); });
  }
  if (i < n) {
    const std::int64_t left = n - i;
    use(
        i, [left](const float* p) __attribute__((always_inline)) { return f_load_n(p, left); },
        [left](float* p, F x) __attribute__((always_inline)) { f_store_n(p, x, left); });
  }
}

/// 1 / sqrt(mean(x^2) + eps)
inline float inverse_rms(const float* x, float eps, std::int64_t n) {
  F sums[4] = {f_zero(), f_zero(), f_zero(), f_zero()};
  std::int64_t i = 0;
  for (; i + 64 <= n; i += 64) {
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const F values = f_load(x + i + 16 * j);
      sums[j] = f_fma(values, values, sums[j]);
    }
  }
  for (; i < n; i += 16) {
    const F values = n - i >= 16 ? f_load(x + i) : f_load_n(x + i, n - i);
    sums[0] = f_fma(values, values, sums[0]);
  }
  const float squares = f_sum(f_add(f_add(sums[0], sums[1]), f_add(sums[2], sums[3])));
  return 1.0F / __builtin_sqrtf(squares / static_cast<float>(n) + eps);
}

inline void rms_norm(const float* x, const float* gamma, float eps, std::int64_t n, float* out) noexcept {
  const F inverse = f_set(inverse_rms(x, eps, n));
  for_each_vector(
      n, [&](std::int64_t i, auto load, auto store)
             __attribute__((always_inline)) { store(out + i, f_mul(f_mul(load(x + i), inverse), load(gamma + i))); });
}

inline void rope(float* x, std::int64_t heads, std::int64_t head_dim, std::int64_t width, const float* cos,
                 const float* sin) noexcept {
  const std::int64_t half = width / 2;
  for (std::int64_t head = 0; head < heads; ++head) {
    float* lower = x + head * head_dim;
    float* upper = lower + half;
    for_each_vector(
        half, [&](std::int64_t i, auto load, auto store) __attribute__((always_inline)) {
          const F a = load(lower + i);
          const F b = load(upper + i);
          const F c = load(cos + i);
          const F s = load(sin + i);
          store(lower + i, f_fnma(b, s, f_mul(a, c)));
          store(upper + i, f_fma(a, s, f_mul(b, c)));
        });
  }
}

/// V vectors of R rows of x [n] times matrix [n, n], from column `first` on; `left`: columns of the last vector.
template <int R, int V>
inline __attribute__((always_inline)) void multiply_columns(const float* x, std::int64_t n, const float* matrix,
                                                            std::int64_t first, std::int64_t left, float* out) {
  F sums[R][V];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sums[r][v] = f_zero();
  }
  for (std::int64_t i = 0; i < n; ++i) {
    const float* entries = matrix + i * n + first;
    F loaded[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v)
      loaded[v] = v + 1 < V || left == 16 ? f_load(entries + 16 * v) : f_load_n(entries + 16 * v, left);
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) {
      const F value = f_set(x[r * n + i]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sums[r][v] = f_fma(value, loaded[v], sums[r][v]);
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
    float* to = out + r * n + first;
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) {
      if (v + 1 < V || left == 16) {
        f_store(to + 16 * v, sums[r][v]);
      } else {
        f_store_n(to + 16 * v, sums[r][v], left);
      }
    }
  }
}

template <int R, int V>
inline void multiply_some_rows(float* rows, std::int64_t n, const float* matrix, float* scratch) {
  for (std::int64_t i = 0; i < R * n; ++i) scratch[i] = rows[i];
  std::int64_t first = 0;
  for (; first + 16 * V <= n; first += 16 * V) multiply_columns<R, V>(scratch, n, matrix, first, 16, rows);
  for (; first < n; first += 16) {
    const std::int64_t left = n - first < 16 ? n - first : 16;
    multiply_columns<R, 1>(scratch, n, matrix, first, left, rows);
  }
}

// Eight sums at a time, whose additions overlap.
inline void multiply_rows(float* rows, std::int64_t count, std::int64_t n, const float* matrix,
                          float* scratch) noexcept {
  for (; count >= 4; count -= 4, rows += 4 * n) multiply_some_rows<4, 2>(rows, n, matrix, scratch);
  if (count >= 2) {
    multiply_some_rows<2, 4>(rows, n, matrix, scratch);
    count -= 2;
    rows += 2 * n;
  }
  if (count == 1) multiply_some_rows<1, 4>(rows, n, matrix, scratch);
}

/// The last values of a row of 16-bit numbers, followed by zeros.
struct HalfTail {
  std::uint16_t values[16];
};
inline HalfTail half_tail(const std::uint16_t* x, std::int64_t n) {
  HalfTail tail{};
  for (std::int64_t i = 0; i < n; ++i) tail.values[i] = x[i];
  return tail;
}

inline void f16_to_float(const std::uint16_t* x, std::int64_t n, float* out) noexcept {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) f_store(out + i, f_load_f16(x + i));
  if (i < n) f_store_n(out + i, f_load_f16(half_tail(x + i, n - i).values), n - i);
}

inline void bf16_to_float(const std::uint16_t* x, std::int64_t n, float* out) noexcept {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) f_store(out + i, f_load_bf16(x + i));
  if (i < n) f_store_n(out + i, f_load_bf16(half_tail(x + i, n - i).values), n - i);
}

/// Plain: 16 integers are a vector to the compiler already. NaN stays a (quiet) NaN.
inline void float_to_bf16(const float* x, std::int64_t n, std::uint16_t* out) noexcept {
  for (std::int64_t i = 0; i < n; ++i) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, x + i, 4);
    const std::uint32_t rounded = (bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16;
    const std::uint32_t nan = (bits >> 16) | 0x40U;
    out[i] = static_cast<std::uint16_t>((bits & 0x7fffffffU) > 0x7f800000U ? nan : rounded);
  }
}
