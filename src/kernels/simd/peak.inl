// What this instruction set can do at best, on the vocabulary of vec.h (machine_limits.h). Included inside the namespace
// of one instruction set.

/// Makes the compiler believe that x has changed: nothing that depends on it is folded, and no instruction is added.
template <typename V>
inline __attribute__((always_inline)) void touch(V& x) {
#if defined(__x86_64__)
  if constexpr (requires { x.a; }) {
    asm volatile("" : "+x"(x.a), "+x"(x.b));
  } else {
    asm volatile("" : "+v"(x));
  }
#else
  asm volatile("" : "+m"(x));
#endif
}

/// Independent sums: enough to hide the latency of the products, few enough to stay in registers.
template <typename V>
inline constexpr int peak_chains = requires(V x) { x.a; } ? 5 : 16;

/// `step` takes a sum and one that it may read to keep the products apart.
template <typename V, typename Step>
inline __attribute__((always_inline)) void run_chains(std::int64_t rounds, V start, Step step) {
  constexpr int chains = peak_chains<V>;
  V sums[chains];
#pragma GCC unroll 16
  for (int i = 0; i < chains; ++i) sums[i] = start;
  for (std::int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 16
    for (int i = 0; i < chains; ++i) step(sums[i]);
  }
#pragma GCC unroll 16
  for (int i = 0; i < chains; ++i) touch(sums[i]);
}

inline double int8_peak(std::int64_t rounds) noexcept {
  const B weights = b_set(2);
  B row = b_set(1);
  run_chains<I>(rounds, i_zero(), [&](I & sum) __attribute__((always_inline)) {
    touch(row);
    sum = dot(sum, weights, row);
  });
  return static_cast<double>(rounds) * peak_chains<I> * 64 * 2;
}

inline double f32_peak(std::int64_t rounds) noexcept {
  const F factor = f_set(0.5F);
  F row = f_set(1.0F);
  run_chains<F>(rounds, f_zero(), [&](F & sum) __attribute__((always_inline)) {
    touch(row);
    sum = f_fma(factor, row, sum);
  });
  return static_cast<double>(rounds) * peak_chains<F> * 16 * 2;
}

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
