// Integer products on the vocabulary of vec.h. Included inside the namespace of one instruction set.

/// sums[r][p] = the product of `quads` quads of row r and unpacked panel p (panels interleaved, [quads][P][64]), both
/// planes. A function of its own, so that nothing but the tile competes for registers.
template <int R, int P>
__attribute__((noinline)) void multiply_planes(const std::uint8_t* panels, const std::int8_t* rows,
                                               std::int64_t row_stride, std::int64_t plane_stride, int planes,
                                               std::int64_t quads, I (&sums)[R][P]) noexcept {
  I acc[R][P];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) acc[r][p] = i_zero();
  }
  const std::int64_t twice = 2 * row_stride;
  for (int plane = planes - 1;; --plane) {
    const std::uint8_t* weight = panels;
    const std::int8_t* row_of = rows + plane * plane_stride;
    // Two bases and the strides 0, 1 and 2: six rows are addressed with three registers.
    const std::int8_t* lower_rows = row_of + 3 * row_stride;
    // Unrolled, so that no pointer arithmetic takes a port from the products.
#pragma GCC unroll 4
    for (std::int64_t quad = 0; quad < quads; ++quad) {
      B weights[P];
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) weights[p] = b_load(weight + 64 * p);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        const std::int8_t* base = r < 3 ? row_of : lower_rows;
        const B row = b_broadcast4(r % 3 == 0 ? base : r % 3 == 1 ? base + row_stride : base + twice);
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) acc[r][p] = dot(acc[r][p], weights[p], row);
      }
      weight += 64 * P;
      row_of += 4;
      lower_rows += 4;
    }
    if (plane == 0) break;
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) acc[r][p] = i_shift_left<8>(acc[r][p]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) sums[r][p] = acc[r][p];
  }
}

/// A segment's sums of codes as they are -> of (code - zero) of the weights.
inline I without_zeros(I acc, const IntWeights& weights, std::int64_t panel, const IntActivations& activations,
                       std::int64_t row, std::int64_t segment) {
  const I zero = weights.zero != nullptr ? i_load(weights.zero + (panel * weights.segments + segment) * panel_channels)
                                         : i_set(weights.common_zero);
  return i_sub(acc, i_mul(zero, i_set(activations.sum[row * weights.segments + segment])));
}

/// The value that such sums stand for.
inline F segment_value(I exact, const IntWeights& weights, std::int64_t panel, const IntActivations& activations,
                       std::int64_t row, std::int64_t segment, F so_far) {
  const std::int64_t of_weights = (panel * weights.segments + segment) * panel_channels;
  const std::int64_t of_row = row * weights.segments + segment;
  if (activations.zero != nullptr) {
    exact = i_sub(exact, i_mul(i_load(weights.sum + of_weights), i_set(activations.zero[of_row])));
  }
  const F scale = f_mul(f_load(weights.scale + of_weights), f_set(activations.scale[of_row]));
  return f_fma(f_from_i(exact), scale, so_far);
}

/// The bias of a panel's channels. Weights: IntWeights or FloatWeights.
template <typename Weights>
inline F start_value(const Weights& weights, std::int64_t panel) {
  return weights.bias != nullptr ? f_load(weights.bias + panel * panel_channels) : f_zero();
}

inline std::int64_t segment_columns(const IntWeights& weights, std::int64_t segment) {
  const std::int64_t left = weights.columns - segment * weights.segment;
  return left < weights.segment ? left : weights.segment;
}

/// P panels from `panel` on, unpacked in `bytes`, times R rows from `row` on.
template <int R, int P>
inline void dense_values(const IntWeights& weights, const std::uint8_t* bytes, std::int64_t panel,
                         const IntActivations& activations, std::int64_t row, F (&values)[R][P]) {
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) values[r][p] = start_value(weights, panel + p);
  }
  for (std::int64_t segment = 0; segment < weights.segments; ++segment) {
    const std::int64_t column = segment * weights.segment;
    I acc[R][P];
    multiply_planes<R, P>(bytes + column * panel_channels * P,
                          activations.codes + row * activations.row_stride + column, activations.row_stride,
                          activations.plane_stride, activations.planes, segment_columns(weights, segment) / 4, acc);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) {
        const I exact = without_zeros(acc[r][p], weights, panel + p, activations, row + r, segment);
        values[r][p] = segment_value(exact, weights, panel + p, activations, row + r, segment, values[r][p]);
      }
    }
  }
}

/// Sums of the rows' codes over each run of columns that share a group scale and a segment, [rows][parts].
struct GroupSums {
  std::int32_t* sums;
  std::int64_t columns;  ///< in a part; fewer in the last one
  std::int64_t parts;
};

inline GroupSums group_sums(const IntWeights& weights, const IntActivations& activations, std::int32_t* sums) {
  const std::int64_t columns = weights.group < weights.segment ? weights.group : weights.segment;
  const std::int64_t parts = (weights.columns + columns - 1) / columns;
  for (std::int64_t row = 0; row < activations.rows; ++row) {
    for (std::int64_t part = 0; part < parts; ++part) {
      const std::int64_t first = part * columns;
      const std::int64_t last = first + columns < weights.columns ? first + columns : weights.columns;
      std::int32_t sum = 0;
      for (int plane = activations.planes - 1; plane >= 0; --plane) {
        const std::int8_t* codes = activations.codes + plane * activations.plane_stride + row * activations.row_stride;
        sum *= 256;
        for (std::int64_t column = first; column < last; ++column) sum += codes[column];
      }
      sums[row * parts + part] = sum;
    }
  }
  return {sums, columns, parts};
}

/// The same for one packed panel and few rows: every code is read once, straight from where it lies. Of two-level
/// weights the sums of a group are scaled, not its codes.
template <int R, int Bits, bool TwoLevel, bool Wide>
inline void packed_values(const IntWeights& weights, std::int64_t panel, const IntActivations& activations,
                          std::int64_t row, const GroupSums& of_groups, F (&values)[R][1]) {
  for (int r = 0; r < R; ++r) values[r][0] = start_value(weights, panel);
  const std::uint8_t* block = weights.codes + panel * weights.panel_bytes;
  const std::int8_t* rows = activations.codes + row * activations.row_stride;
  const std::uint8_t* group_scales = TwoLevel ? weights.group_scales + panel * weights.group_bytes : nullptr;
  const std::int32_t* sum_of_part = TwoLevel ? of_groups.sums + row * of_groups.parts : nullptr;
  std::int64_t left_of_group = weights.group;
  if constexpr (TwoLevel) {  // those of the next panel
    for (std::int64_t at = 0; at < weights.group_bytes; at += 64) prefetch<0>(group_scales + weights.group_bytes + at);
  }
  for (std::int64_t segment = 0; segment < weights.segments; ++segment) {
    I exact[R];
    for (int r = 0; r < R; ++r) exact[r] = i_zero();
    std::int64_t left = segment_columns(weights, segment);
    do {
      const std::int64_t columns = TwoLevel && of_groups.columns < left ? of_groups.columns : left;
      I acc[R][2];
      I high[R][2];
      for (int r = 0; r < R; ++r) {
        for (int i = 0; i < 2; ++i) {
          acc[r][i] = i_zero();
          high[r][i] = i_zero();
        }
      }
      for (std::int64_t b = 0; b < columns; b += column_block) {
        prefetch_codes<Bits>(block);
        for_each_quad<Bits>(
            block, [&](int quad, B codes) __attribute__((always_inline)) {
#pragma GCC unroll 4
              for (int r = 0; r < R; ++r) {
                const std::int8_t* quad_of_row = rows + r * activations.row_stride + 4 * quad;
                acc[r][quad & 1] = dot(acc[r][quad & 1], codes, b_broadcast4(quad_of_row));
                if constexpr (Wide) {
                  high[r][quad & 1] =
                      dot(high[r][quad & 1], codes, b_broadcast4(quad_of_row + activations.plane_stride));
                }
              }
            });
        block += 64 * Bits;
        rows += column_block;
      }
      left -= columns;
      I scale = i_zero();
      I zero = i_zero();
      if constexpr (TwoLevel) {
        const I packed = i_load_bytes(group_scales);
        scale = i_add(i_and(packed, i_set(15)), i_set(1));
        zero = i_shift_right<4>(packed);
        left_of_group -= columns;
        if (left_of_group == 0) {
          left_of_group = weights.group;
          group_scales += panel_channels;
        }
      }
      for (int r = 0; r < R; ++r) {
        I sum = i_add(acc[r][0], acc[r][1]);
        if constexpr (Wide) sum = i_add(sum, i_shift_left<8>(i_add(high[r][0], high[r][1])));
        if constexpr (TwoLevel) {
          sum = i_sub(sum, i_mul(zero, i_set(sum_of_part[r * of_groups.parts])));
          exact[r] = i_add(exact[r], i_mul(scale, sum));
        } else {
          exact[r] = without_zeros(sum, weights, panel, activations, row + r, segment);
        }
      }
      if constexpr (TwoLevel) ++sum_of_part;
    } while (TwoLevel && left > 0);
    for (int r = 0; r < R; ++r) {
      values[r][0] = segment_value(exact[r], weights, panel, activations, row + r, segment, values[r][0]);
    }
  }
}

template <int R>
inline void packed_values(const IntWeights& weights, std::int64_t panel, const IntActivations& activations,
                          std::int64_t row, const GroupSums& of_groups, F (&values)[R][1]) {
  const auto of = [&]<int Bits, bool TwoLevel>() {
    if (activations.planes == 2) {
      packed_values<R, Bits, TwoLevel, true>(weights, panel, activations, row, of_groups, values);
    } else {
      packed_values<R, Bits, TwoLevel, false>(weights, panel, activations, row, of_groups, values);
    }
  };
  if (weights.group_scales != nullptr) return of.template operator()<4, true>();
  switch (weights.bits) {
    case 2:
      return of.template operator()<2, false>();
    case 3:
      return of.template operator()<3, false>();
    case 4:
      return of.template operator()<4, false>();
    default:
      return of.template operator()<8, false>();
  }
}

template <int R, int P>
inline void store_values(const F (&values)[R][P], float* out, std::int64_t out_stride, Store store, std::int64_t panel,
                         std::int64_t row, std::int64_t channels) {
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) {
      float* to = out + (row + r) * out_stride + (panel + p) * panel_channels;
      const std::int64_t left = channels - (panel + p) * panel_channels;
      if (left >= panel_channels) {
        f_store(to, store == Store::add ? f_add(f_load(to), values[r][p]) : values[r][p]);
      } else if (left > 0) {
        f_store_n(to, store == Store::add ? f_add(f_load_n(to, left), values[r][p]) : values[r][p], left);
      }
    }
  }
}

template <int R, int P>
inline void gate_values(Gate kind, F (&gate)[R][P], const F (&up)[R][P]) {
  for (int r = 0; r < R; ++r) {
    for (int p = 0; p < P; ++p) {
      const F opened = kind == Gate::silu ? f_silu(gate[r][p]) : f_gelu_tanh(gate[r][p]);
      gate[r][p] = f_mul(opened, up[r][p]);
    }
  }
}

template <int R, int P>
inline void dense_tile(const IntGemm& gemm, std::int64_t panel, std::int64_t row, const std::uint8_t* bytes,
                       const std::uint8_t* up_bytes) {
  F values[R][P];
  dense_values<R, P>(gemm.weights, bytes, panel, gemm.activations, row, values);
  if (gemm.up != nullptr) {
    F up[R][P];
    dense_values<R, P>(*gemm.up, up_bytes, panel, gemm.activations, row, up);
    gate_values<R, P>(gemm.gate, values, up);
  }
  store_values<R, P>(values, gemm.out, gemm.out_stride, gemm.store, panel, row, gemm.weights.channels);
}

#ifdef PQ_MATRIX_TILES
/// 32 rows from `row` on times tile_panels panels on the matrix unit.
inline void matrix_values(const IntWeights& weights, const std::uint8_t* bytes, std::int64_t panel,
                          const IntActivations& activations, std::int64_t row, F (&values)[matrix_rows][tile_panels]) {
  alignas(64) std::int32_t sums[2][matrix_rows][tile_panels * panel_channels];
  for (int r = 0; r < matrix_rows; ++r) {
    for (int p = 0; p < tile_panels; ++p) values[r][p] = start_value(weights, panel + p);
  }
  for (std::int64_t segment = 0; segment < weights.segments; ++segment) {
    const std::int64_t column = segment * weights.segment;
    const std::int64_t steps = segment_columns(weights, segment) / matrix_bytes;
    for (int plane = 0; plane < activations.planes; ++plane) {
      for (int p = 0; p < tile_panels; p += 2) {
        const std::int8_t* codes =
            activations.codes + plane * activations.plane_stride + row * activations.row_stride + column;
        multiply_matrix<MatrixKind::int8>(
            {{{bytes + column * panel_channels * tile_panels + 64 * p, 64 * tile_panels, 16 * 64 * tile_panels},
              64,
              {{codes, activations.row_stride, matrix_bytes}}}},
            steps, sums[plane][0] + 16 * p, tile_panels * panel_channels);
      }
    }
    for (int r = 0; r < matrix_rows; ++r) {
      for (int p = 0; p < tile_panels; ++p) {
        I sum = i_load(sums[0][r] + 16 * p);
        if (activations.planes == 2) sum = i_add(sum, i_shift_left<8>(i_load(sums[1][r] + 16 * p)));
        const I exact = without_zeros(sum, weights, panel + p, activations, row + r, segment);
        values[r][p] = segment_value(exact, weights, panel + p, activations, row + r, segment, values[r][p]);
      }
    }
  }
}

/// Rows [first, 32) of a block's values.
inline void store_rows(const F (&values)[matrix_rows][tile_panels], std::int64_t first, float* out,
                       std::int64_t out_stride, Store store, std::int64_t panel, std::int64_t row,
                       std::int64_t channels) {
  for (std::int64_t r = first; r < matrix_rows; ++r) {
    F one[1][tile_panels];
    for (int p = 0; p < tile_panels; ++p) one[0][p] = values[r][p];
    store_values<1, tile_panels>(one, out, out_stride, store, panel, row + r, channels);
  }
}

/// All rows in blocks of 32; the last block reaches back over rows that are done, whose results it leaves alone.
inline void matrix_blocks(const IntGemm& gemm, std::int64_t panel, const std::uint8_t* bytes,
                          const std::uint8_t* up_bytes) {
  const MatrixTiles tiles;
  const std::int64_t rows = gemm.activations.rows;
  for (std::int64_t next = 0; next < rows; next += matrix_rows) {
    const std::int64_t row = next + matrix_rows <= rows ? next : rows - matrix_rows;
    F values[matrix_rows][tile_panels];
    matrix_values(gemm.weights, bytes, panel, gemm.activations, row, values);
    if (gemm.up != nullptr) {
      F up[matrix_rows][tile_panels];
      matrix_values(*gemm.up, up_bytes, panel, gemm.activations, row, up);
      gate_values<matrix_rows, tile_panels>(gemm.gate, values, up);
    }
    store_rows(values, next - row, gemm.out, gemm.out_stride, gemm.store, panel, row, gemm.weights.channels);
  }
}

inline bool fits_matrix_tiles(const IntGemm& gemm) {
  return gemm.activations.rows >= matrix_rows && gemm.weights.columns % matrix_bytes == 0 &&
         gemm.weights.segment % matrix_bytes == 0;
}
#endif

/// Panels of gate that go before as many of up: each change from one to the other interrupts two streams from memory.
inline constexpr std::int64_t gate_panels = 16;

template <int R>
inline void packed_tile(const IntGemm& gemm, std::int64_t panel, std::int64_t row, const GroupSums& of_groups) {
  F values[R][1];
  packed_values<R>(gemm.weights, panel, gemm.activations, row, of_groups, values);
  store_values<R, 1>(values, gemm.out, gemm.out_stride, gemm.store, panel, row, gemm.weights.channels);
}

/// `count` panels, at most gate_panels.
template <int R>
inline void packed_gate_tile(const IntGemm& gemm, std::int64_t panel, std::int64_t count, std::int64_t row,
                             const GroupSums& of_groups, const GroupSums& of_up_groups) {
  F values[gate_panels][R][1];
  for (std::int64_t i = 0; i < count; ++i) {
    packed_values<R>(gemm.weights, panel + i, gemm.activations, row, of_groups, values[i]);
  }
  for (std::int64_t i = 0; i < count; ++i) {
    F up[R][1];
    packed_values<R>(*gemm.up, panel + i, gemm.activations, row, of_up_groups, up);
    gate_values<R, 1>(gemm.gate, values[i], up);
    store_values<R, 1>(values[i], gemm.out, gemm.out_stride, gemm.store, panel + i, row, gemm.weights.channels);
  }
}

/// Up to this many rows, unpacking costs more than it saves.
inline constexpr std::int64_t few_rows = 8;

inline void int_gemm(const IntGemm& gemm, std::int64_t first_panel, std::int64_t last_panel, void* scratch) noexcept {
  const std::int64_t rows = gemm.activations.rows;
  if (rows <= few_rows) {
    auto* sums = static_cast<std::int32_t*>(scratch);
    const auto sums_of = [&](const IntWeights& weights) {
      if (weights.group_scales == nullptr) return GroupSums{};
      const GroupSums made = group_sums(weights, gemm.activations, sums);
      sums += rows * made.parts;
      return made;
    };
    const GroupSums of_groups = sums_of(gemm.weights);
    if (gemm.up == nullptr) {
      for (std::int64_t panel = first_panel; panel < last_panel; ++panel) {
        for_each_row_tile<4>(rows, [&]<int R>(std::int64_t row) { packed_tile<R>(gemm, panel, row, of_groups); });
      }
      return;
    }
    const GroupSums of_up_groups = sums_of(*gemm.up);
    for (std::int64_t panel = first_panel; panel < last_panel; panel += gate_panels) {
      const std::int64_t count = last_panel - panel < gate_panels ? last_panel - panel : gate_panels;
      for_each_row_tile<4>(rows, [&]<int R>(std::int64_t row) {
        packed_gate_tile<R>(gemm, panel, count, row, of_groups, of_up_groups);
      });
    }
    return;
  }
  auto* bytes = static_cast<std::uint8_t*>(scratch);
  auto* up_bytes = bytes + tile_panels * gemm.weights.columns * panel_channels;
  for_each_panel_group(first_panel, last_panel, [&]<int P>(std::int64_t panel) {
    const auto unpack = [&](const IntWeights& weights, std::uint8_t* out) {
      for (int p = 0; p < P; ++p) unpack_panel(weights, panel + p, 64 * P, out + 64 * p);
    };
    unpack(gemm.weights, bytes);
    if (gemm.up != nullptr) unpack(*gemm.up, up_bytes);
#ifdef PQ_MATRIX_TILES
    if (P == tile_panels && fits_matrix_tiles(gemm)) return matrix_blocks(gemm, panel, bytes, up_bytes);
#endif
    for_each_row_tile<tile_rows>(rows,
                                 [&]<int R>(std::int64_t row) { dense_tile<R, P>(gemm, panel, row, bytes, up_bytes); });
  });
}
