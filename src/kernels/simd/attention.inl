// Attention over a packed KV cache on the vocabulary of vec.h. Included inside the namespace of one instruction set.
//
// Integer caches are multiplied as they lie: Q and the attention probabilities become 16-bit codes (two int8 planes),
// so that both products run on the integer units; what is lost is 2^-15 of a row's largest value. One running softmax
// goes over prefix and body (Milakov and Gimelshein, arXiv 1805.02867).

inline constexpr std::int64_t key_tile = 256;
inline constexpr float log2_of_e = 1.44269504088896341F;  // scores are kept in powers of two
inline constexpr float no_score = -__builtin_inff();

/// What attend keeps of every row (a query token's head) while it walks over the keys.
struct AttentionRows {
  std::int64_t rows;
  std::int64_t dim;          ///< padded head_dim
  float* query;              ///< [rows][dim]; scaled once the codes are made
  std::int8_t* query_codes;  ///< [2][rows][dim]
  float* query_scale;        ///< [rows], softmax scale included
  float* query_sum;          ///< [rows][groups], in units of codes
  float* score_scale;        ///< [rows]: static scales; a score is product * score_scale - score_zero
  float* score_zero;         ///< [rows]
  float* score;              ///< [rows][key_tile]
  std::int8_t* probability;  ///< codes, [2][rows][key_tile]
  float* probability_scale;  ///< [rows]
  float* zero_sum;           ///< [rows]: what the zero points take away, in units of codes
  float* largest;            ///< [rows]
  float* tile_largest;       ///< [rows]: of this tile
  float* total;              ///< [rows]
  float* decay;              ///< [rows]: factor of what was summed before this tile
  float* sum;                ///< [rows][dim]
  std::uint8_t* tile;        ///< unpacked keys or values
};

inline void quantize_queries(const Attention& attention, const AttentionRows& state) {
  const KvLayout& layout = attention.layout;
  for (std::int64_t row = 0; row < state.rows; ++row) {
    const float* query = state.query + row * state.dim;
    F largest = f_zero();
    for (std::int64_t c = 0; c < state.dim; c += 16) largest = f_max(largest, f_abs(f_load(query + c)));
    const float max = f_largest(largest);
    const float scale = max > 0 ? max / static_cast<float>(wide_code_max) : 1.0F;
    const F inverse = f_set(max > 0 ? static_cast<float>(wide_code_max) / max : 0.0F);
    std::int8_t* low = state.query_codes + row * state.dim;
    std::int8_t* high = low + state.rows * state.dim;
    for (std::int64_t group = 0; group < layout.groups; ++group) {
      const std::int64_t end = group + 1 == layout.groups ? state.dim : (group + 1) * layout.group;
      I sum = i_zero();
      for (std::int64_t c = group * layout.group; c < end; c += 16) {
        const I code = i_from_f(f_mul(f_load(query + c), inverse));
        sum = i_add(sum, code);
        store_codes<2>(low + c, high - low, code);
      }
      state.query_sum[row * layout.groups + group] = static_cast<float>(i_sum(sum));
    }
    state.query_scale[row] = scale * attention.scale * log2_of_e;
    if (!layout.dynamic_scales) {
      state.score_scale[row] = state.query_scale[row] * *attention.head.key_scale;
      state.score_zero[row] =
          state.score_scale[row] * static_cast<float>(*attention.head.key_zero) * state.query_sum[row];
    }
  }
}

/// Products of all rows with one tile of P interleaved panels: use(row, panel, exact sum of both planes).
template <int P, typename Use>
inline void for_each_product(const std::uint8_t* tile, const std::int8_t* codes, std::int64_t row_stride,
                             std::int64_t plane_stride, std::int64_t rows, std::int64_t quads, Use&& use) {
  for_each_row_tile<tile_rows>(rows, [&]<int R>(std::int64_t row) {
    I sums[R][P];
    multiply_planes<R, P>(tile, codes + row * row_stride, row_stride, plane_stride, 2, quads, sums);
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) use(row + r, p, sums[r][p]);
    }
  });
}

template <int P, typename Use>
inline void for_each_float_product(const float* tile, const float* rows_of, std::int64_t row_stride, std::int64_t rows,
                                   std::int64_t columns, Use&& use) {
  for_each_row_tile<tile_rows>(rows, [&]<int R>(std::int64_t row) {
    F sums[R][P];
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) sums[r][p] = f_zero();
    }
    multiply_floats<R, P>(tile, rows_of + row * row_stride, row_stride, columns, sums);
    for (int r = 0; r < R; ++r) {
      for (int p = 0; p < P; ++p) use(row + r, p, sums[r][p]);
    }
  });
}

inline int bits_of(KvFormat format) { return format == KvFormat::int4 ? 4 : 8; }

/// Scores of `tokens` keys (rounded up to 16) from body token `first` on.
inline void integer_scores(const Attention& attention, const AttentionRows& state, std::int64_t first,
                           std::int64_t tokens) {
  const KvLayout& layout = attention.layout;
  const int bits = bits_of(layout.format);
  const std::int64_t bytes_of_panel = panel_bytes(state.dim, bits);
  for_each_panel_group(0, (tokens + 15) / 16, [&]<int P>(std::int64_t panel) {
    for (int p = 0; p < P; ++p) {
      unpack_blocks(attention.head.key + (first / 16 + panel + p) * bytes_of_panel, state.dim / column_block, bits,
                    64 * P, state.tile + 64 * p);
    }
    if (!layout.dynamic_scales) {
      for_each_product<P>(
          state.tile, state.query_codes, state.dim, state.rows * state.dim, state.rows,
          state.dim / 4, [&](std::int64_t row, int p, I sum) __attribute__((always_inline)) {
            f_store(state.score + row * key_tile + (panel + p) * 16,
                    f_fma(f_from_i(sum), f_set(state.score_scale[row]), f_sub(f_zero(), f_set(state.score_zero[row]))));
          });
      return;
    }
    for (std::int64_t group = 0; group < layout.groups; ++group) {
      const std::int64_t column = group * layout.group;
      const std::int64_t end = group + 1 == layout.groups ? state.dim : column + layout.group;
      F scale[P];
      F scaled_zero[P];
      for (int p = 0; p < P; ++p) {
        alignas(64) float scales[16];
        alignas(64) float zeros[16];
        for (int i = 0; i < 16; ++i) {
          const std::int64_t token = (panel + p) * 16 + i;
          const std::int64_t at = (first + (token < tokens ? token : tokens - 1)) * layout.groups + group;
          scales[i] = attention.head.key_scale[at];
          zeros[i] = static_cast<float>(attention.head.key_zero[at]);
        }
        scale[p] = f_load(scales);
        scaled_zero[p] = f_mul(scale[p], f_load(zeros));
      }
      for_each_product<P>(
          state.tile + column * P * panel_channels, state.query_codes + column, state.dim, state.rows * state.dim,
          state.rows, (end - column) / 4, [&](std::int64_t row, int p, I sum) __attribute__((always_inline)) {
            const F part = f_fnma(scaled_zero[p], f_set(state.query_sum[row * layout.groups + group]),
                                  f_mul(f_from_i(sum), scale[p]));
            float* to = state.score + row * key_tile + (panel + p) * 16;
            const F value = f_mul(part, f_set(state.query_scale[row]));
            f_store(to, group == 0 ? value : f_add(f_load(to), value));
          });
    }
  });
}

inline void float_scores(const Attention& attention, const AttentionRows& state, std::int64_t first,
                         std::int64_t tokens) {
  const KvLayout& layout = attention.layout;
  auto* tile = reinterpret_cast<float*>(state.tile);
  const std::int64_t values = layout.head_dim * 16;
  for_each_panel_group(0, (tokens + 15) / 16, [&]<int P>(std::int64_t panel) {
    for (int p = 0; p < P; ++p) {
      const std::int64_t from = (first / 16 + panel + p) * values;
      for (std::int64_t c = 0; c < layout.head_dim; ++c) {
        const F keys = layout.format == KvFormat::f16
                           ? f_load_f16(reinterpret_cast<const std::uint16_t*>(attention.head.key) + from + c * 16)
                           : f_load(reinterpret_cast<const float*>(attention.head.key) + from + c * 16);
        f_store(tile + (c * P + p) * 16, keys);
      }
    }
    for_each_float_product<P>(
        tile, state.query, state.dim, state.rows,
        layout.head_dim, [&](std::int64_t row, int p, F sum) __attribute__((always_inline)) {
          f_store(state.score + row * key_tile + (panel + p) * 16, sum);
        });
  });
}

/// Hides the keys that a row does not see, and moves its running maximum. `tokens` keys from body token `first` on.
inline void mask_and_find_largest(const Attention& attention, const AttentionRows& state, std::int64_t first,
                                  std::int64_t tokens) {
  for (std::int64_t row = 0; row < state.rows; ++row) {
    const std::int64_t position = attention.first + row / attention.group_heads;
    const std::int64_t begin = attention.window > 0 ? position - attention.window + 1 - first : 0;
    const std::int64_t end = position + 1 - first < tokens ? position + 1 - first : tokens;
    float* score = state.score + row * key_tile;
    const std::int64_t padded = (tokens + 15) / 16 * 16;
    for (std::int64_t t = 0; t < begin && t < padded; ++t) score[t] = no_score;
    for (std::int64_t t = end > 0 ? end : 0; t < padded; ++t) score[t] = no_score;
    F largest = f_set(no_score);
    for (std::int64_t t = 0; t < padded; t += 16) largest = f_max(largest, f_load(score + t));
    const float before = state.largest[row];
    const float tile = f_largest(largest);
    const float now = before > tile ? before : tile;
    state.tile_largest[row] = tile;
    state.largest[row] = now;
    state.decay[row] = before == no_score ? 0.0F : f_first(f_exp2(f_set(before - now)));
  }
}

/// Scores become 2^(score - largest); their sum goes into the running total.
inline void exponentiate(const AttentionRows& state, std::int64_t row, std::int64_t padded) {
  float* score = state.score + row * key_tile;
  F total = f_zero();
  const F largest = f_set(state.largest[row] == no_score ? 0.0F : state.largest[row]);
  for (std::int64_t t = 0; t < padded; t += 16) {
    const F p = f_exp2(f_sub(f_load(score + t), largest));
    total = f_add(total, p);
    f_store(score + t, p);
  }
  state.total[row] = state.total[row] * state.decay[row] + f_sum(total);
}

/// exponentiate and the codes of the probabilities in one pass, for static scales of V.
inline void exponentiate_to_codes(const Attention& attention, const AttentionRows& state, std::int64_t row,
                                  std::int64_t padded) {
  const float* score = state.score + row * key_tile;
  std::int8_t* low = state.probability + row * key_tile;
  std::int8_t* high = low + state.rows * key_tile;
  const float shift = state.largest[row] == no_score ? 0.0F : state.largest[row];
  // The tile's largest probability becomes the largest code: 2^(score - tile's largest), and the row's own scale after.
  const float tile = state.tile_largest[row] == no_score ? 0.0F : state.tile_largest[row];
  const F tile_shift = f_set(tile);
  const F unit = f_set(static_cast<float>(wide_code_max));
  F total = f_zero();
  I codes = i_zero();
  for (std::int64_t t = 0; t < padded; t += 16) {
    const F p = f_exp2(f_sub(f_load(score + t), tile_shift));
    total = f_add(total, p);
    const I code = i_from_f(f_mul(p, unit));
    codes = i_add(codes, code);
    store_codes<2>(low + t, high - low, code);
  }
  for (std::int64_t t = padded; t < (padded + 31) / 32 * 32; t += 16) store_codes<2>(low + t, high - low, i_zero());
  const float of_row = f_first(f_exp2(f_set(tile - shift)));
  state.total[row] = state.total[row] * state.decay[row] + f_sum(total) * of_row;
  state.probability_scale[row] = of_row / static_cast<float>(wide_code_max) * *attention.head.value_scale;
  state.zero_sum[row] = static_cast<float>(i_sum(codes)) * static_cast<float>(*attention.head.value_zero);
}

/// Codes of a row's probabilities times the values' scales of one group (dynamic scales of V).
inline void quantize_probabilities(const AttentionRows& state, std::int64_t row, const float* scales,
                                   const float* zeros, std::int64_t padded) {
  const float* probability = state.score + row * key_tile;
  F largest = f_zero();
  for (std::int64_t t = 0; t < padded; t += 16) {
    largest = f_max(largest, f_mul(f_load(probability + t), f_load(scales + t)));
  }
  const float max = f_largest(largest);
  const F inverse = f_set(max > 0 ? static_cast<float>(wide_code_max) / max : 0.0F);
  std::int8_t* low = state.probability + row * key_tile;
  std::int8_t* high = low + state.rows * key_tile;
  F zero_sum = f_zero();
  for (std::int64_t t = 0; t < padded; t += 16) {
    const I code = i_from_f(f_mul(f_mul(f_load(probability + t), f_load(scales + t)), inverse));
    zero_sum = f_fma(f_from_i(code), f_load(zeros + t), zero_sum);
    store_codes<2>(low + t, high - low, code);
  }
  state.probability_scale[row] = max > 0 ? max / static_cast<float>(wide_code_max) : 0.0F;
  state.zero_sum[row] = f_sum(zero_sum);
}

inline void integer_values(const Attention& attention, const AttentionRows& state, std::int64_t first,
                           std::int64_t tokens) {
  const KvLayout& layout = attention.layout;
  const int bits = bits_of(layout.format);
  const std::int64_t panels = state.dim / panel_channels;
  const std::int64_t blocks = (tokens + column_block - 1) / column_block;
  for (std::int64_t group = 0; group < layout.groups; ++group) {
    if (layout.dynamic_scales) {
      alignas(64) float scales[key_tile];
      alignas(64) float zeros[key_tile];
      for (std::int64_t t = 0; t < blocks * column_block; ++t) {
        const std::int64_t at = (first + t) * layout.groups + group;
        scales[t] = t < tokens ? attention.head.value_scale[at] : 0.0F;
        zeros[t] = t < tokens ? static_cast<float>(attention.head.value_zero[at]) : 0.0F;
      }
      for (std::int64_t row = 0; row < state.rows; ++row) {
        quantize_probabilities(state, row, scales, zeros, blocks * column_block);
      }
    }
    const std::int64_t first_panel = group * layout.group / panel_channels;
    const std::int64_t last_panel = group + 1 == layout.groups ? panels : (group + 1) * layout.group / panel_channels;
    for_each_panel_group(first_panel, last_panel, [&]<int P>(std::int64_t panel) {
      for (std::int64_t block = 0; block < blocks; ++block) {
        for (int p = 0; p < P; ++p) {
          const std::int64_t at = (first / column_block + block) * panels + panel + p;
          unpack_blocks(attention.head.value + at * 64 * bits, 1, bits, 64 * P, state.tile + block * 512 * P + 64 * p);
        }
      }
      for_each_product<P>(
          state.tile, state.probability, key_tile, state.rows * key_tile, state.rows,
          blocks * 8, [&](std::int64_t row, int p, I sum) __attribute__((always_inline)) {
            float* to = state.sum + row * state.dim + (panel + p) * panel_channels;
            const F codes = f_sub(f_from_i(sum), f_set(state.zero_sum[row]));
            const F decayed = f_mul(f_load(to), f_set(state.decay[row]));
            f_store(to, f_fma(codes, f_set(state.probability_scale[row]), decayed));
          });
    });
  }
}

inline void float_values(const Attention& attention, const AttentionRows& state, std::int64_t first,
                         std::int64_t tokens) {
  auto* tile = reinterpret_cast<float*>(state.tile);
  for_each_panel_group(0, state.dim / panel_channels, [&]<int P>(std::int64_t panel) {
    for (std::int64_t t = 0; t < tokens; ++t) {
      for (int p = 0; p < P; ++p) {
        const std::int64_t at = (first + t) * state.dim + (panel + p) * panel_channels;
        f_store(tile + (t * P + p) * 16,
                attention.layout.format == KvFormat::f16
                    ? f_load_f16(reinterpret_cast<const std::uint16_t*>(attention.head.value) + at)
                    : f_load(reinterpret_cast<const float*>(attention.head.value) + at));
      }
    }
    for_each_float_product<P>(
        tile, state.score, key_tile, state.rows,
        tokens, [&](std::int64_t row, int p, F sum) __attribute__((always_inline)) {
          float* to = state.sum + row * state.dim + (panel + p) * panel_channels;
          f_store(to, f_fma(f_load(to), f_set(state.decay[row]), sum));
        });
  });
}

/// The prefix, which every row sees whole: a few tokens, in float.
inline void attend_prefix(const Attention& attention, const AttentionRows& state) {
  for (std::int64_t row = 0; row < state.rows; ++row) {
    const float* query = state.query + row * state.dim;
    float* sum = state.sum + row * state.dim;
    for (std::int64_t first = 0; first < attention.prefix; first += key_tile) {
      const std::int64_t tokens = attention.prefix - first < key_tile ? attention.prefix - first : key_tile;
      float* score = state.score + row * key_tile;
      float largest = state.largest[row];
      for (std::int64_t t = 0; t < tokens; ++t) {
        const float* key = attention.head.prefix_key + (first + t) * state.dim;
        F product = f_zero();
        for (std::int64_t c = 0; c < state.dim; c += 16) product = f_fma(f_load(query + c), f_load(key + c), product);
        score[t] = f_sum(product);
        if (score[t] > largest) largest = score[t];
      }
      const std::int64_t padded = (tokens + 15) / 16 * 16;
      for (std::int64_t t = tokens; t < padded; ++t) score[t] = no_score;
      state.decay[row] = state.largest[row] == no_score ? 0.0F : f_first(f_exp2(f_set(state.largest[row] - largest)));
      state.largest[row] = largest;
      exponentiate(state, row, padded);
      for (std::int64_t c = 0; c < state.dim; c += 16) {
        F value = f_mul(f_load(sum + c), f_set(state.decay[row]));
        for (std::int64_t t = 0; t < tokens; ++t) {
          value = f_fma(f_load(attention.head.prefix_value + (first + t) * state.dim + c), f_set(score[t]), value);
        }
        f_store(sum + c, value);
      }
    }
  }
}

inline AttentionRows lay_out(const Attention& attention, void* scratch) {
  AttentionRows state{};
  state.rows = attention.queries * attention.group_heads;
  state.dim = attention.layout.padded_dim;
  auto* next = static_cast<std::uint8_t*>(scratch);
  const auto take = [&](std::int64_t bytes) {
    std::uint8_t* here = next;
    next += (bytes + 63) / 64 * 64;
    return here;
  };
  const std::int64_t rows = state.rows;
  const auto floats = [&](std::int64_t count) { return reinterpret_cast<float*>(take(count * 4)); };
  state.query = floats(rows * state.dim);
  state.query_codes = reinterpret_cast<std::int8_t*>(take(2 * rows * state.dim));
  state.query_scale = floats(rows);
  state.query_sum = floats(rows * attention.layout.groups);
  state.score_scale = floats(rows);
  state.score_zero = floats(rows);
  state.score = floats(rows * key_tile);
  state.probability = reinterpret_cast<std::int8_t*>(take(2 * rows * key_tile));
  state.probability_scale = floats(rows);
  state.zero_sum = floats(rows);
  state.largest = floats(rows);
  state.tile_largest = floats(rows);
  state.total = floats(rows);
  state.decay = floats(rows);
  state.sum = floats(rows * state.dim);
  state.tile = take(key_tile * state.dim * 4);
  return state;
}

inline void attend(const Attention& as_given, void* scratch) noexcept {
  Attention attention = as_given;
  if (!attention.layout.dynamic_scales) {  // one scale, however the codes were grouped
    attention.layout.groups = 1;
    attention.layout.group = attention.layout.padded_dim;
  }
  const KvLayout& layout = attention.layout;
  const AttentionRows state = lay_out(attention, scratch);
  const bool integer = layout.format == KvFormat::int4 || layout.format == KvFormat::int8;
  for (std::int64_t row = 0; row < state.rows; ++row) {
    const float* from = attention.query + row / attention.group_heads * attention.query_stride +
                        row % attention.group_heads * layout.head_dim;
    float* query = state.query + row * state.dim;
    for (std::int64_t c = 0; c < layout.head_dim; ++c) query[c] = from[c];
    for (std::int64_t c = layout.head_dim; c < state.dim; ++c) query[c] = 0;
    for (std::int64_t c = 0; c < state.dim; ++c) state.sum[row * state.dim + c] = 0;
    state.largest[row] = no_score;
    state.total[row] = 0;
  }
  if (integer) quantize_queries(attention, state);
  const F scale = f_set(attention.scale * log2_of_e);
  for (std::int64_t c = 0; c < state.rows * state.dim; c += 16) {
    f_store(state.query + c, f_mul(f_load(state.query + c), scale));
  }
  if (attention.prefix > 0) attend_prefix(attention, state);

  const std::int64_t keys = attention.first + attention.queries;
  const std::int64_t oldest = attention.window > 0 ? attention.first - attention.window + 1 : 0;
  for (std::int64_t first = oldest > 0 ? oldest / column_block * column_block : 0; first < keys; first += key_tile) {
    const std::int64_t tokens = keys - first < key_tile ? keys - first : key_tile;
    if (integer) {
      integer_scores(attention, state, first, tokens);
    } else {
      float_scores(attention, state, first, tokens);
    }
    mask_and_find_largest(attention, state, first, tokens);
    const std::int64_t padded = (tokens + 15) / 16 * 16;
    for (std::int64_t row = 0; row < state.rows; ++row) {
      if (integer && !layout.dynamic_scales) {
        exponentiate_to_codes(attention, state, row, padded);
      } else {
        exponentiate(state, row, padded);
        for (std::int64_t t = padded; t < (tokens + 31) / 32 * 32; ++t) state.score[row * key_tile + t] = 0;
      }
    }
    if (integer) {
      integer_values(attention, state, first, tokens);
    } else {
      float_values(attention, state, first, tokens);
    }
  }
  for (std::int64_t row = 0; row < state.rows; ++row) {
    float* out = attention.out + row / attention.group_heads * attention.out_stride +
                 row % attention.group_heads * layout.head_dim;
    const F inverse = f_set(1.0F / state.total[row]);
    for (std::int64_t c = 0; c < layout.head_dim; c += 16) {
      const F value = f_mul(f_load(state.sum + row * state.dim + c), inverse);
      const std::int64_t left = layout.head_dim - c;
      if (left >= 16) {
        f_store(out + c, value);
      } else {
        f_store_n(out + c, value, left);
      }
    }
  }
}
