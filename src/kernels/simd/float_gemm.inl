// Floating-point products on the vocabulary of vec.h. Included inside the namespace of one instruction set.

/// Lanes are 16 channels: columns [0, columns) of one packed panel as float, out [columns][step].
inline void widen_panel(const FloatWeights& weights, std::int64_t panel, std::int64_t step, float* out) {
  const std::int64_t from = panel * weights.columns * panel_channels;
  if (weights.format == FloatFormat::bf16) {
    const auto* pairs = static_cast<const std::uint16_t*>(weights.values) + from;
    for (std::int64_t column = 0; column < weights.columns; column += 2) {
      f_store(out + column * step, f_even_bf16(pairs + column * panel_channels));
      f_store(out + (column + 1) * step, f_odd_bf16(pairs + column * panel_channels));
    }
  } else if (weights.format == FloatFormat::f16) {
    const auto* halves = static_cast<const std::uint16_t*>(weights.values) + from;
    for (std::int64_t column = 0; column < weights.columns; ++column) {
      f_store(out + column * step, f_load_f16(halves + column * panel_channels));
    }
  } else {
    const auto* floats = static_cast<const float*>(weights.values) + from;
    for (std::int64_t column = 0; column < weights.columns; ++column) {
      f_store(out + column * step, f_load(floats + column * panel_channels));
    }
  }
}

/// sums[r][p] += rows [R][row_stride] times panels [columns][P][16].
template <int R, int P>
__attribute__((noinline)) void multiply_floats(const float* panels, const float* rows, std::int64_t row_stride,
                                               std::int64_t columns, F (&sums)[R][P]) noexcept {
  F acc[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) acc[r][p] = sums[r][p];
  }
  const float* lower_rows = rows + 3 * row_stride;
  const std::int64_t twice = 2 * row_stride;
#pragma GCC unroll 4
  for (std::int64_t column = 0; column < columns; ++column) {
    F weights[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) weights[p] = f_load(panels + 16 * p);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const float* base = r < 3 ? rows : lower_rows;
      const F x = f_set(r % 3 == 0 ? *base : r % 3 == 1 ? base[row_stride] : base[twice]);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) acc[r][p] = f_fma(weights[p], x, acc[r][p]);
    }
    panels += 16 * P;
    ++rows;
    ++lower_rows;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) sums[r][p] = acc[r][p];
  }
}

template <int R, int P>
inline void float_tile(const FloatGemm& gemm, std::int64_t panel, std::int64_t row, const float* widened,
                       const float* up_widened) {
  const auto values_of = [&](const FloatWeights& weights, const float* panels, F(&values)[R][P]) {
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) values[r][p] = start_value(weights, panel + p);
    }
    multiply_floats<R, P>(panels, gemm.activations + row * gemm.row_stride, gemm.row_stride, weights.columns, values);
  };
  F values[R][P];
  values_of(gemm.weights, widened, values);
  if (gemm.up != nullptr) {
    F up[R][P];
    values_of(*gemm.up, up_widened, up);
    gate_values<R, P>(gemm.gate, values, up);
  }
  store_values<R, P>(values, gemm.out, gemm.out_stride, gemm.store, panel, row, gemm.weights.channels);
}

/// One packed panel and R rows: every weight is read once, from where it lies. Four sums a row hide the latency.
template <int R>
inline void streamed_values(const FloatWeights& weights, std::int64_t panel, const float* rows, std::int64_t row_stride,
                            F (&values)[R][1]) {
  constexpr int chains = R == 1 ? 4 : 2;
  F acc[R][chains];
  for (int r = 0; r < R; ++r) {
    for (int i = 0; i < chains; ++i) acc[r][i] = f_zero();
    acc[r][0] = start_value(weights, panel);
  }
  const auto step = [&](F w, std::int64_t column, int chain) __attribute__((always_inline)) {
#pragma GCC unroll 4
    for (int r = 0; r < R; ++r) acc[r][chain] = f_fma(w, f_set(rows[r * row_stride + column]), acc[r][chain]);
  };
  const std::int64_t from = panel * weights.columns * panel_channels;
  const std::int64_t fours = weights.columns / 4 * 4;
  if (weights.format == FloatFormat::bf16) {
    const auto* pairs = static_cast<const std::uint16_t*>(weights.values) + from;
    for (std::int64_t column = 0; column < fours; column += 4) {
      const std::uint16_t* at = pairs + column * panel_channels;
      prefetch<2048>(at);
      prefetch<2048 + 64>(at);
      step(f_even_bf16(at), column, 0);
      step(f_odd_bf16(at), column + 1, 1);
      step(f_even_bf16(at + 32), column + 2, 2 % chains);
      step(f_odd_bf16(at + 32), column + 3, 3 % chains);
    }
    for (std::int64_t column = fours; column < weights.columns; column += 2) {
      step(f_even_bf16(pairs + column * panel_channels), column, 0);
      step(f_odd_bf16(pairs + column * panel_channels), column + 1, 1);
    }
  } else if (weights.format == FloatFormat::f16) {
    const auto* halves = static_cast<const std::uint16_t*>(weights.values) + from;
    for (std::int64_t column = 0; column < fours; column += 4) {
      const std::uint16_t* at = halves + column * panel_channels;
      prefetch<2048>(at);
      prefetch<2048 + 64>(at);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) step(f_load_f16(at + i * panel_channels), column + i, i % chains);
    }
    for (std::int64_t column = fours; column < weights.columns; ++column) {
      step(f_load_f16(halves + column * panel_channels), column, 0);
    }
  } else {
    const auto* floats = static_cast<const float*>(weights.values) + from;
    for (std::int64_t column = 0; column < fours; column += 4) {
      const float* at = floats + column * panel_channels;
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        prefetch<2048>(at + i * panel_channels);
        step(f_load(at + i * panel_channels), column + i, i % chains);
      }
    }
    for (std::int64_t column = fours; column < weights.columns; ++column) {
      step(f_load(floats + column * panel_channels), column, 0);
    }
  }
  for (int r = 0; r < R; ++r) {
    values[r][0] = f_add(acc[r][0], acc[r][1]);
    if constexpr (chains == 4) values[r][0] = f_add(values[r][0], f_add(acc[r][2], acc[r][3]));
  }
}

template <int R>
inline void streamed_tile(const FloatGemm& gemm, std::int64_t panel, std::int64_t row) {
  F values[R][1];
  const float* rows = gemm.activations + row * gemm.row_stride;
  streamed_values<R>(gemm.weights, panel, rows, gemm.row_stride, values);
  if (gemm.up != nullptr) {
    F up[R][1];
    streamed_values<R>(*gemm.up, panel, rows, gemm.row_stride, up);
    gate_values<R, 1>(gemm.gate, values, up);
  }
  store_values<R, 1>(values, gemm.out, gemm.out_stride, gemm.store, panel, row, gemm.weights.channels);
}

#ifdef PQ_BF16_DOT
/// Lines of one bf16 panel, one every `step` bytes.
inline void interleave_panel(const FloatWeights& weights, std::int64_t panel, std::int64_t step, std::uint8_t* out) {
  const std::int64_t lines = weights.columns / 2;
  const auto* from = static_cast<const std::uint8_t*>(weights.values) + panel * lines * 64;
  for (std::int64_t line = 0; line < lines; ++line) b_store(out + line * step, b_load(from + 64 * line));
}

/// values[r][p] += rows of bf16 [R][row_stride] times panels [pairs][P][16][2].
template <int R, int P>
__attribute__((noinline)) void multiply_pairs(const std::uint8_t* panels, const std::uint16_t* rows,
                                              std::int64_t row_stride, std::int64_t pairs, F (&values)[R][P]) noexcept {
  F acc[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) acc[r][p] = values[r][p];
  }
  const std::uint16_t* lower_rows = rows + 3 * row_stride;
  const std::int64_t twice = 2 * row_stride;
#pragma GCC unroll 4
  for (std::int64_t pair = 0; pair < pairs; ++pair) {
    B weights[P];
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) weights[p] = b_load(panels + 64 * p);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const std::uint16_t* base = r < 3 ? rows : lower_rows;
      const B row = b_broadcast4(r % 3 == 0 ? base : r % 3 == 1 ? base + row_stride : base + twice);
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) acc[r][p] = dot_bf16(acc[r][p], weights[p], row);
    }
    panels += 64 * P;
    rows += 2;
    lower_rows += 2;
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) values[r][p] = acc[r][p];
  }
}

template <int R, int P>
inline void pairs_tile(const FloatGemm& gemm, std::int64_t panel, std::int64_t row, const std::uint8_t* lines,
                       const std::uint8_t* up_lines) {
  const auto values_of = [&](const FloatWeights& weights, const std::uint8_t* panels, F(&values)[R][P]) {
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) values[r][p] = start_value(weights, panel + p);
    }
    multiply_pairs<R, P>(panels, gemm.rounded + row * gemm.rounded_stride, gemm.rounded_stride, weights.columns / 2,
                         values);
  };
  F values[R][P];
  values_of(gemm.weights, lines, values);
  if (gemm.up != nullptr) {
    F up[R][P];
    values_of(*gemm.up, up_lines, up);
    gate_values<R, P>(gemm.gate, values, up);
  }
  store_values<R, P>(values, gemm.out, gemm.out_stride, gemm.store, panel, row, gemm.weights.channels);
}

#ifdef PQ_MATRIX_TILES
template <int P>
using MatrixSums = float[matrix_rows][P * panel_channels];

/// Writes what sums of 32 rows from `row` on, without bias, become: of the rows from `first` to `last`.
template <int P>
inline void finish_matrix_rows(const FloatGemm& gemm, const MatrixSums<P>& sums, const MatrixSums<P>& up_sums,
                               std::int64_t panel, std::int64_t row, std::int64_t first, std::int64_t last) {
  const auto with_bias = [&](const FloatWeights& weights, const float* of_row, F(&values)[1][P]) {
    for (int p = 0; p < P; ++p) values[0][p] = f_add(f_load(of_row + 16 * p), start_value(weights, panel + p));
  };
  for (std::int64_t r = first; r < last; ++r) {
    F values[1][P];
    with_bias(gemm.weights, sums[r - row], values);
    if (gemm.up != nullptr) {
      F up[1][P];
      with_bias(*gemm.up, up_sums[r - row], up);
      gate_values<1, P>(gemm.gate, values, up);
    }
    store_values<1, P>(values, gemm.out, gemm.out_stride, gemm.store, panel, r, gemm.weights.channels);
  }
}

/// Rounded rows. The last block reaches back over rows that are done, whose results it leaves alone.
inline void rounded_matrix_blocks(const FloatGemm& gemm, std::int64_t panel, const std::uint8_t* lines,
                                  const std::uint8_t* up_lines) {
  const MatrixTiles tiles;
  alignas(64) MatrixSums<tile_panels> sums;
  alignas(64) MatrixSums<tile_panels> up_sums;
  for (std::int64_t next = 0; next < gemm.rows; next += matrix_rows) {
    const std::int64_t row = next + matrix_rows <= gemm.rows ? next : gemm.rows - matrix_rows;
    const auto add_up = [&](const std::uint8_t* of_weights, MatrixSums<tile_panels>& out) {
      for (int p = 0; p < tile_panels; p += 2) {
        multiply_matrix<MatrixKind::bf16>(
            {{{of_weights + 64 * p, 64 * tile_panels, 16 * 64 * tile_panels},
              64,
              {{gemm.rounded + row * gemm.rounded_stride, gemm.rounded_stride * 2, matrix_bytes}}}},
            gemm.weights.columns * 2 / matrix_bytes, out[0] + 16 * p, tile_panels * panel_channels);
      }
    };
    add_up(lines, sums);
    if (gemm.up != nullptr) add_up(up_lines, up_sums);
    finish_matrix_rows<tile_panels>(gemm, sums, up_sums, panel, row, next, row + matrix_rows);
  }
}

/// P panels as tiles [columns / 32][P][16][64 bytes]; f16 as two bf16 planes, which hold its 11 digits exactly, the
/// second behind the first.
template <int P>
inline void panel_tiles(const FloatWeights& weights, std::int64_t panel, std::uint8_t* out) {
  const std::int64_t plane = P * weights.columns * panel_channels * 2;
  for (int p = 0; p < P; ++p) {
    const auto* values =
        static_cast<const std::uint16_t*>(weights.values) + (panel + p) * weights.columns * panel_channels;
    for (std::int64_t pair = 0; pair < weights.columns / 2; ++pair, values += 2 * panel_channels) {
      std::uint8_t* line = out + ((pair / 16 * P + p) * 16 + pair % 16) * 64;
      if (weights.format == FloatFormat::bf16) {
        b_store(line, b_load(values));
        continue;
      }
      const F even = f_load_f16(values);
      const F odd = f_load_f16(values + panel_channels);
      b_store(line, paired_bf16(even, odd));
      b_store(line + plane, paired_bf16(f_sub(even, upper_halves(even)), f_sub(odd, upper_halves(odd))));
    }
  }
}

/// 32 rows, the planes of which begin at `rows`, times P panels of tiles.
template <int P>
inline void plane_sums(const FloatWeights& weights, const std::uint8_t* tiles, const std::uint16_t* rows,
                       MatrixSums<P>& sums) {
  const auto plane = [&](int number) {
    return MatrixOperand{rows + number * plane_tile_values, matrix_bytes, float_planes * plane_tile_values * 2};
  };
  const std::int64_t steps = weights.columns * 2 / matrix_bytes;
  constexpr int at_once = P == 1 ? 1 : 2;
  constexpr std::int64_t tile_bytes = 16 * matrix_bytes;
  for (int p = 0; p < P; p += at_once) {
    const auto add_up = [&](std::initializer_list<MatrixTerm> terms) {
      multiply_matrix<MatrixKind::bf16, at_once>(terms, steps, sums[0] + 16 * p, P * panel_channels);
    };
    const MatrixOperand upper{tiles + p * tile_bytes, matrix_bytes, P * tile_bytes};
    if (weights.format == FloatFormat::bf16) {
      add_up({{upper, tile_bytes, {plane(2), plane(1), plane(0)}}});
    } else {
      MatrixOperand lower = upper;
      lower.at = upper.tile(steps);
      add_up({{lower, tile_bytes, {plane(1), plane(0)}}, {upper, tile_bytes, {plane(2), plane(1), plane(0)}}});
    }
  }
}

inline bool fits_exact_planes(const FloatGemm& gemm) {
  return gemm.rounded != nullptr && gemm.planes == float_planes && gemm.rows >= matrix_rows &&
         gemm.weights.columns * 2 % matrix_bytes == 0 && gemm.weights.format != FloatFormat::f32;
}

/// Float32 products on the matrix unit. Every element is computed alike, however panels are grouped.
inline void planes_gemm(const FloatGemm& gemm, std::int64_t first_panel, std::int64_t last_panel, void* scratch) {
  const MatrixTiles configured;
  for_each_panel_group(first_panel, last_panel, [&]<int P>(std::int64_t panel) {
    auto* tiles = static_cast<std::uint8_t*>(scratch);
    std::uint8_t* up_tiles = tiles + P * gemm.weights.columns * panel_channels * 4;
    panel_tiles<P>(gemm.weights, panel, tiles);
    if (gemm.up != nullptr) panel_tiles<P>(*gemm.up, panel, up_tiles);
    alignas(64) MatrixSums<P> sums;
    alignas(64) MatrixSums<P> up_sums;
    const std::uint16_t* rows = gemm.rounded;
    for (std::int64_t row = 0; row < gemm.rows; row += matrix_rows) {
      plane_sums<P>(gemm.weights, tiles, rows, sums);
      if (gemm.up != nullptr) plane_sums<P>(*gemm.up, up_tiles, rows, up_sums);
      const std::int64_t last = row + matrix_rows < gemm.rows ? row + matrix_rows : gemm.rows;
      finish_matrix_rows<P>(gemm, sums, up_sums, panel, row, row, last);
      rows += gemm.weights.columns * matrix_rows * float_planes;
    }
  });
}
#endif

inline void bf16_gemm(const FloatGemm& gemm, std::int64_t first_panel, std::int64_t last_panel, void* scratch) {
  auto* lines = static_cast<std::uint8_t*>(scratch);
  auto* up_lines = lines + tile_panels * gemm.weights.columns * panel_channels * 2;
  for_each_panel_group(first_panel, last_panel, [&]<int P>(std::int64_t panel) {
    for (int p = 0; p < P; ++p) {
      interleave_panel(gemm.weights, panel + p, 64 * P, lines + 64 * p);
      if (gemm.up != nullptr) interleave_panel(*gemm.up, panel + p, 64 * P, up_lines + 64 * p);
    }
#ifdef PQ_MATRIX_TILES
    if (P == tile_panels && gemm.rows >= matrix_rows && gemm.weights.columns * 2 % matrix_bytes == 0) {
      return rounded_matrix_blocks(gemm, panel, lines, up_lines);
    }
#endif
    for_each_row_tile<tile_rows>(gemm.rows,
                                 [&]<int R>(std::int64_t row) { pairs_tile<R, P>(gemm, panel, row, lines, up_lines); });
  });
}
#endif

inline void float_gemm(const FloatGemm& gemm, std::int64_t first_panel, std::int64_t last_panel,
                       void* scratch) noexcept {
  if (gemm.rows <= few_rows) {
    for (std::int64_t panel = first_panel; panel < last_panel; ++panel) {
      for_each_row_tile<4>(gemm.rows, [&]<int R>(std::int64_t row) { streamed_tile<R>(gemm, panel, row); });
    }
    return;
  }
#ifdef PQ_MATRIX_TILES
  if (fits_exact_planes(gemm)) return planes_gemm(gemm, first_panel, last_panel, scratch);
#endif
#ifdef PQ_BF16_DOT
  if (gemm.rounded != nullptr && gemm.planes == 1 && gemm.weights.format == FloatFormat::bf16) {
    return bf16_gemm(gemm, first_panel, last_panel, scratch);
  }
#endif
  auto* widened = static_cast<float*>(scratch);
  float* up_widened = widened + tile_panels * gemm.weights.columns * panel_channels;
  for_each_panel_group(first_panel, last_panel, [&]<int P>(std::int64_t panel) {
    for (int p = 0; p < P; ++p) {
      widen_panel(gemm.weights, panel + p, 16 * P, widened + 16 * p);
      if (gemm.up != nullptr) widen_panel(*gemm.up, panel + p, 16 * P, up_widened + 16 * p);
    }
    for_each_row_tile<tile_rows>(
        gemm.rows, [&]<int R>(std::int64_t row) { float_tile<R, P>(gemm, panel, row, widened, up_widened); });
  });
}
