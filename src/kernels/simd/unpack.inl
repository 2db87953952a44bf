// Packed codes to bytes, on the vocabulary of vec.h. Included inside the namespace of one instruction set.

/// The 8 quads of one column block, unpacked: use(quad, codes of 16 channels x 4 columns).
template <int Bits, typename Use>
inline __attribute__((always_inline)) void for_each_quad(const std::uint8_t* block, Use&& use) {
  if constexpr (Bits == 8) {
#pragma GCC unroll 8
    for (int quad = 0; quad < 8; ++quad) use(quad, b_load(block + 64 * quad));
  } else if constexpr (Bits == 4) {
    const B mask = b_set(0x0f);
#pragma GCC unroll 4
    for (int line = 0; line < 4; ++line) {
      const B codes = b_load(block + 64 * line);
      use(2 * line, b_and(codes, mask));
      use(2 * line + 1, b_and(b_shift_right<4>(codes), mask));
    }
  } else {
    const B mask = b_set(3);
    const B third = b_set(4);
    B bits{};
    if constexpr (Bits == 3) bits = b_load(block + 128);
    const auto with_third = [&](B low, B high) {
      if constexpr (Bits == 3) return b_or(low, b_and(high, third));
      return low;
    };
#pragma GCC unroll 2
    for (int line = 0; line < 2; ++line) {
      const B codes = b_load(block + 64 * line);
      const B upper = Bits == 3 && line == 1 ? b_shift_right<4>(bits) : bits;
      use(4 * line, with_third(b_and(codes, mask), b_shift_left<2>(upper)));
      use(4 * line + 1, with_third(b_and(b_shift_right<2>(codes), mask), b_shift_left<1>(upper)));
      use(4 * line + 2, with_third(b_and(b_shift_right<4>(codes), mask), upper));
      use(4 * line + 3, with_third(b_and(b_shift_right<6>(codes), mask), b_shift_right<1>(upper)));
    }
  }
}

/// Column blocks of a panel as bytes, a quad every `step` bytes: out [blocks * 8][step], 64 of them written.
template <int Bits>
inline void unpack_blocks(const std::uint8_t* codes, std::int64_t blocks, std::int64_t step, std::uint8_t* out) {
  for (std::int64_t block = 0; block < blocks; ++block) {
    for_each_quad<Bits>(codes + block * 64 * Bits, [&](int quad, B bytes) { b_store(out + quad * step, bytes); });
    out += 8 * step;
  }
}

inline void unpack_blocks(const std::uint8_t* codes, std::int64_t blocks, int bits, std::int64_t step,
                          std::uint8_t* out) {
  switch (bits) {
    case 2:
      return unpack_blocks<2>(codes, blocks, step, out);
    case 3:
      return unpack_blocks<3>(codes, blocks, step, out);
    case 4:
      return unpack_blocks<4>(codes, blocks, step, out);
    default:
      return unpack_blocks<8>(codes, blocks, step, out);
  }
}

// Bytes that codes are asked for ahead of their use. The first cache can wait for few lines at once, and a core that
// waits for one of them asks for no more; the second cache goes on meanwhile. 8-bit codes are not worth asking twice.
inline constexpr int fetched_ahead = 4096;
inline constexpr int fetched_near = 2048;
inline constexpr int fetched_far = 12288;

/// One block of 32 columns, on its way to the first cache and further ahead to the second.
template <int Bits>
inline void prefetch_codes(const std::uint8_t* block) {
#pragma GCC unroll 8
  for (int line = 0; line < Bits; ++line) {
    if constexpr (Bits == 8) {
      prefetch<fetched_ahead>(block + 64 * line);
    } else {
      prefetch<fetched_near>(block + 64 * line);
      prefetch_far<fetched_far>(block + 64 * line);
    }
  }
}

/// What unpacks the codes of a group of two-level weights, 16 channels: code * factor + offset.
struct GroupScales {
  B factor;
  B offset;
};

inline GroupScales load_group_scales(const std::uint8_t* packed) {
  const B both = b_spread(packed);
  const B nibble = b_set(0x0f);
  const B factor = b_factor(b_add(b_and(both, nibble), b_set(1)));
  const B zero = b_and(b_shift_right<4>(both), nibble);
  return {factor, b_sub(b_set(128), b_multiply(zero, factor))};
}

inline B scaled_codes(B codes, const GroupScales& scales) {
  return b_add(b_multiply(codes, scales.factor), scales.offset);
}

/// A whole panel as bytes, a quad every `step` bytes.
inline void unpack_panel(const IntWeights& weights, std::int64_t panel, std::int64_t step, std::uint8_t* out) {
  const std::uint8_t* codes = weights.codes + panel * weights.panel_bytes;
  if (weights.group_scales == nullptr) {
    return unpack_blocks(codes, weights.columns / column_block, weights.bits, step, out);
  }
  const std::uint8_t* of_group = weights.group_scales + panel * weights.group_bytes;
  for (std::int64_t first = 0; first < weights.columns; first += weights.group) {
    const GroupScales scales = load_group_scales(of_group);
    for (std::int64_t column = first; column < first + weights.group && column < weights.columns;
         column += column_block) {
      for_each_quad<4>(codes, [&](int quad, B bytes) { b_store(out + quad * step, scaled_codes(bytes, scales)); });
      codes += 64 * 4;
      out += 8 * step;
    }
    of_group += panel_channels;
  }
}
