// The online rotations, on the vocabulary of vec.h. Included inside the namespace of one instruction set.

/// The Hadamard transform of order R across R vectors, each lane by itself.
template <int R>
inline __attribute__((always_inline)) void butterflies(F* v) {
  if constexpr (R > 1) {
    butterflies<R / 2>(v);
    butterflies<R / 2>(v + R / 2);
#pragma GCC unroll 16
    for (int i = 0; i < R / 2; ++i) {
      const F a = v[i];
      const F b = v[i + R / 2];
      v[i] = f_add(a, b);
      v[i + R / 2] = f_sub(a, b);
    }
  }
}

/// Orders 16 * R of neighbouring values, scaled: the first log2(16 * R) levels of `count` values.
template <int R>
inline void first_levels(float* x, std::int64_t count, F scale) {
  for (std::int64_t i = 0; i < count; i += 16 * R) {
    F v[R];
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) v[r] = f_hadamard16(f_mul(f_load(x + i + 16 * r), scale));
    butterflies<R>(v);
#pragma GCC unroll 16
    for (int r = 0; r < R; ++r) f_store(x + i + 16 * r, v[r]);
  }
}

/// log2(R) levels of `count` values, from the one that pairs values `half` apart.
template <int R>
inline void next_levels(float* x, std::int64_t count, std::int64_t half) {
  for (std::int64_t start = 0; start < count; start += R * half) {
    float* from = x + start;
    std::int64_t i = 0;
    for (; i + 16 <= half; i += 16) {
      F v[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) v[r] = f_load(from + r * half + i);
      butterflies<R>(v);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) f_store(from + r * half + i, v[r]);
    }
    if (i < half) {
      F v[R];
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) v[r] = f_load_n(from + r * half + i, half - i);
      butterflies<R>(v);
#pragma GCC unroll 16
      for (int r = 0; r < R; ++r) f_store_n(from + r * half + i, v[r], half - i);
    }
  }
}

/// All levels from `half` up to `size`, of every block of `size` among `count` values, in as few passes as the
/// registers allow and with passes as even as they can be.
inline void remaining_levels(float* x, std::int64_t count, std::int64_t half, std::int64_t size) {
  int levels = 0;
  for (std::int64_t reach = half; reach < size; reach *= 2) ++levels;
  constexpr int most = hadamard_radix == 16 ? 4 : hadamard_radix == 8 ? 3 : 2;
  for (int passes = (levels + most - 1) / most; passes > 0; --passes) {
    const int now = (levels + passes - 1) / passes;
    if constexpr (most >= 4) {
      if (now == 4) next_levels<16>(x, count, half);
    }
    if constexpr (most >= 3) {
      if (now == 3) next_levels<8>(x, count, half);
    }
    if (now == 2) next_levels<4>(x, count, half);
    if (now == 1) next_levels<2>(x, count, half);
    half <<= now;
    levels -= now;
  }
}

/// Orders that are powers of two from 16 on: `count` values, blocks of `size`.
inline void power_levels(float* x, std::int64_t count, std::int64_t size, F scale) {
  const std::int64_t done = size < 16 * hadamard_radix ? size : 16 * hadamard_radix;
  switch (done) {
    case 16:
      first_levels<1>(x, count, scale);
      break;
    case 32:
      first_levels<2>(x, count, scale);
      break;
    case 64:
      first_levels<4>(x, count, scale);
      break;
    case 128:
      if constexpr (hadamard_radix >= 8) first_levels<8>(x, count, scale);
      break;
    default:
      if constexpr (hadamard_radix >= 16) first_levels<16>(x, count, scale);
  }
  if (done < size) remaining_levels(x, count, done, size);
}

/// out[R rows][16 * C columns from `column` on] = x[R rows][base] * matrix[base][base]; columns beyond base are left
/// out.
template <int R, int C>
inline void base_tile(const float* x, const float* matrix, std::int64_t base, std::int64_t column, float* out) {
  F sums[R][C];
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) sums[r][c] = f_zero();
  }
  const std::int64_t last = base - column - 16 * (C - 1);
  const float* line = matrix + column;
  const auto accumulate = [&](auto whole) __attribute__((always_inline)) {
    for (std::int64_t i = 0; i < base; ++i, line += base) {
      F columns[C];
#pragma GCC unroll 2
      for (int c = 0; c < C; ++c) {
        columns[c] = whole || c + 1 < C ? f_load(line + 16 * c) : f_load_n(line + 16 * c, last);
      }
#pragma GCC unroll 4
      for (int r = 0; r < R; ++r) {
        const F value = f_set(x[r * base + i]);
#pragma GCC unroll 2
        for (int c = 0; c < C; ++c) sums[r][c] = f_fma(value, columns[c], sums[r][c]);
      }
    }
  };
  if (last >= 16) {
    accumulate(Yes{});
  } else {
    accumulate(No{});
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
    for (int c = 0; c < C; ++c) {
      float* to = out + r * base + column + 16 * c;
      if (c + 1 < C || last >= 16) {
        f_store(to, sums[r][c]);
      } else {
        f_store_n(to, sums[r][c], last);
      }
    }
  }
}

/// out[rows][base] = x[rows][base] * matrix[base][base]
inline void base_product(const float* x, const float* matrix, std::int64_t base, std::int64_t rows, float* out) {
  constexpr int wide = hadamard_radix >= 16 ? 2 : 1;
  for (std::int64_t column = 0; column < base;) {
    const bool pair = wide == 2 && base - column > 16;
    std::int64_t row = 0;
    for (; row + 4 <= rows; row += 4) {
      if (pair) {
        base_tile<4, wide>(x + row * base, matrix, base, column, out + row * base);
      } else {
        base_tile<4, 1>(x + row * base, matrix, base, column, out + row * base);
      }
    }
    for (; row < rows; ++row) {
      base_tile<1, 1>(x + row * base, matrix, base, column, out + row * base);
      if (pair) base_tile<1, 1>(x + row * base, matrix, base, column + 16, out + row * base);
    }
    column += pair ? 32 : 16;
  }
}

/// Orders too small for a vector.
inline void small_levels(float* x, std::int64_t count, std::int64_t size, float scale) {
  for (std::int64_t start = 0; start < count; start += size) {
    for (std::int64_t half = 1; half < size; half *= 2) {
      for (std::int64_t pair = 0; pair < size; pair += 2 * half) {
        for (std::int64_t i = start + pair; i < start + pair + half; ++i) {
          const float a = x[i];
          const float b = x[i + half];
          x[i] = a + b;
          x[i + half] = a - b;
        }
      }
    }
    for (std::int64_t i = start; i < start + size; ++i) x[i] *= scale;
  }
}

inline void hadamard(float* row, const Hadamard& plan, float* scratch) noexcept {
  const F scale = f_set(plan.scale);
  if (plan.base == 1) {
    if (plan.power >= 16) return power_levels(row, plan.order, plan.power, scale);
    return small_levels(row, plan.order, plan.power, plan.scale);
  }
  remaining_levels(row, plan.order, plan.base, plan.base * plan.power);
  for_each_vector(
      plan.order, [&](std::int64_t i, auto load, auto store)
                      __attribute__((always_inline)) { store(scratch + i, f_mul(load(row + i), scale)); });
  base_product(scratch, plan.base_matrix, plan.base, plan.blocks * plan.power, row);
}
