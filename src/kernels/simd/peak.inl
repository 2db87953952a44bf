// What this instruction set can do at best, on the vocabulary of vec.h (machine_limits.h). Included inside the
// namespace of one instruction set.

/// Makes the compiler believe that x has changed, one register after the other: nothing that depends on it is folded,
/// and no instruction is added.
template <typename V>
inline __attribute__((always_inline)) void touch(V& x) {
  if constexpr (requires { x.val; }) {
    for (auto& part : x.val) touch(part);
  } else if constexpr (requires { x.a; }) {
    touch(x.a);
    touch(x.b);
    if constexpr (requires { x.c; }) {
      touch(x.c);
      touch(x.d);
    }
  } else {
#if defined(__x86_64__)
    asm volatile("" : "+v"(x));
#else
    asm volatile("" : "+w"(x));
#endif
  }
}

/// Steps of independent sums: enough of them to hide the latency of the products, few enough to stay in registers.
/// Returns how many steps were done.
template <typename V, typename Step>
inline __attribute__((always_inline)) double run_chains(std::int64_t rounds, V start, Step step) {
  constexpr int chains = requires { start.a; }
  || requires { start.val; }
  ? 5 : 16;
  V sums[chains];
#pragma GCC unroll 16
  for (int i = 0; i < chains; ++i) sums[i] = start;
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < chains; ++i) step(sums[i]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < chains; ++i) touch(sums[i]);
  return static_cast<double>(rounds) * chains;
}

inline double int8_peak(std::int64_t rounds) noexcept {
  const B weights = b_set(2);
  B row = b_set(1);
  const auto step = [&](I & sum) __attribute__((always_inline)) {
    touch(row);
    sum = dot(sum, weights, row);
  };
  return run_chains(rounds, i_zero(), step) * 64 * 2;
}

inline double f32_peak(std::int64_t rounds) noexcept {
  const F factor = f_set(0.5F);
  F row = f_set(1.0F);
  const auto step = [&](F & sum) __attribute__((always_inline)) {
    touch(row);
    sum = f_fma(factor, row, sum);
  };
  return run_chains(rounds, f_zero(), step) * 16 * 2;
}

#ifdef PQ_BF16_DOT
inline double bf16_products(std::int64_t rounds) noexcept {
  const B weights = b_set(0);
  B row = b_set(0);
  const auto step = [&](F & sum) __attribute__((always_inline)) {
    touch(row);
    sum = dot_bf16(sum, weights, row);
  };
  return run_chains(rounds, f_zero(), step) * 32 * 2;
}
inline constexpr auto* bf16_peak = bf16_products;
#else
inline constexpr double (*bf16_peak)(std::int64_t) noexcept = nullptr;
#endif

#ifdef PQ_MATRIX_TILES
/// `step` multiplies into each of four result tiles.
template <typename Step>
inline __attribute__((always_inline)) double run_tiles(std::int64_t rounds, Step step) {
  const MatrixTiles tiles;
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_zero(4);
  _tile_zero(6);
  for (std::int64_t round = 0; round < rounds; ++round) step();
  return static_cast<double>(rounds) * 4 * 16 * 16;
}

inline double int8_tiles(std::int64_t rounds) noexcept {
  const auto step = []() __attribute__((always_inline)) {
    _tile_dpbsud(0, 4, 6);
    _tile_dpbsud(1, 4, 6);
    _tile_dpbsud(2, 4, 6);
    _tile_dpbsud(3, 4, 6);
  };
  return run_tiles(rounds, step) * 64 * 2;
}

inline double bf16_tiles(std::int64_t rounds) noexcept {
  const auto step = []() __attribute__((always_inline)) {
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 6);
    _tile_dpbf16ps(2, 4, 6);
    _tile_dpbf16ps(3, 4, 6);
  };
  return run_tiles(rounds, step) * 32 * 2;
}
inline constexpr auto* int8_matrix_peak = int8_tiles;
inline constexpr auto* bf16_matrix_peak = bf16_tiles;
#else
inline constexpr double (*int8_matrix_peak)(std::int64_t) noexcept = nullptr;
inline constexpr double (*bf16_matrix_peak)(std::int64_t) noexcept = nullptr;
#endif

inline void read_memory(const void* memory, std::int64_t bytes) noexcept {
  const auto* at = static_cast<const char*>(memory);
  B seen[4] = {b_set(0), b_set(0), b_set(0), b_set(0)};
  for (std::int64_t i = 0; i + 256 <= bytes; i += 256) {
#pragma GCC unroll 4
    for (int line = 0; line < 4; ++line) {
      prefetch<2048>(at + i + 64 * line);
      seen[line] = b_or(seen[line], b_load(at + i + 64 * line));
    }
  }
#pragma GCC unroll 4
  for (int line = 0; line < 4; ++line) touch(seen[line]);
}
