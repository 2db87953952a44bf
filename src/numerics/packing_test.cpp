#include "numerics/packing.h"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <limits>
#include <vector>

#include "base/error.h"
#include "numerics/quantize.h"

namespace pq {
namespace {

using Bytes = std::vector<std::uint8_t>;

Bytes packed(const std::vector<std::int32_t>& codes, int bits, bool symmetric) {
  Bytes out(static_cast<std::size_t>(packed_row_bytes(static_cast<std::int64_t>(codes.size()), bits)), 0xee);
  pack_row(codes, bits, symmetric, out);
  return out;
}

TEST(Packing, LaysOutBitsAsDocumented) {
  EXPECT_EQ(packed({1, 2, 3}, 4, false), (Bytes{0x21, 0x03}));
  EXPECT_EQ(packed({-8, 7, 0, -1}, 4, true), (Bytes{0xf0, 0x78}));
  EXPECT_EQ(packed({1, 2, 3, 0, 3}, 2, false), (Bytes{0b00'11'10'01, 0b11}));
  // 5 = 101, 6 = 110, 7 = 111: bits 101 011 111 read from the lowest.
  EXPECT_EQ(packed({5, 6, 7}, 3, false), (Bytes{0b11'110'101, 0b1}));
  EXPECT_EQ(packed({-128, 127}, 8, true), (Bytes{0, 255}));
  EXPECT_EQ(packed({}, 5, true), Bytes{});
}

TEST(Packing, CountsBytes) {
  EXPECT_EQ(packed_row_bytes(0, 3), 0);
  EXPECT_EQ(packed_row_bytes(8, 3), 3);
  EXPECT_EQ(packed_row_bytes(9, 3), 4);
  EXPECT_EQ(packed_row_bytes(1'000'000'000'000, 4), 500'000'000'000);
  EXPECT_THROW(packed_row_bytes(-1, 4), InputError);
  EXPECT_THROW(packed_row_bytes(std::numeric_limits<std::int64_t>::max(), 4), InputError);
  EXPECT_THROW(packed_row_bytes(8, 1), InputError);
  EXPECT_THROW(packed_row_bytes(8, 9), InputError);
}

TEST(Packing, RefusesCodesOutOfRangeAndWrongSizes) {
  Bytes two(2);
  try {
    pack_row(std::vector<std::int32_t>{0, 0, 8}, 4, true, two);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "packed codes: code 8 at position 2 is not in -8..7");
  }
  EXPECT_THROW(pack_row(std::vector<std::int16_t>{0, -1, 0}, 4, false, two), InputError);
  EXPECT_THROW(pack_row(std::vector<std::int16_t>{0, 1}, 4, false, two), InputError);
  std::vector<std::int32_t> five(5);
  try {
    unpack_row(two, 4, false, five);
    FAIL();
  } catch (const InputError& error) {
    EXPECT_STREQ(error.what(), "packed codes: 5 codes of 4 bits take 3 bytes, not 2");
  }
}

RC_GTEST_PROP(Packing, RoundTrips, ()) {
  const int bits = *rc::gen::inRange(2, 9);
  const bool symmetric = *rc::gen::arbitrary<bool>();
  const QuantRange range = quant_range(bits, symmetric);
  const auto codes = *rc::gen::container<std::vector<std::int32_t>>(rc::gen::inRange(range.low, range.high + 1));
  const Bytes bytes = packed(codes, bits, symmetric);

  std::vector<std::int32_t> wide(codes.size(), 99);
  unpack_row(bytes, bits, symmetric, wide);
  RC_ASSERT(wide == codes);

  std::vector<std::int16_t> narrow(codes.size(), 99);
  unpack_row(bytes, bits, symmetric, narrow);
  RC_ASSERT(std::vector<std::int32_t>(narrow.begin(), narrow.end()) == codes);
  Bytes again(bytes.size());
  pack_row(narrow, bits, symmetric, again);
  RC_ASSERT(again == bytes);

  // Bit by bit, as the format is defined.
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    const std::size_t index = bit / static_cast<std::size_t>(bits);
    const auto shift = static_cast<int>(bit % static_cast<std::size_t>(bits));
    const int expected = index < codes.size() ? ((codes[index] - range.low) >> shift) & 1 : 0;
    RC_ASSERT(((bytes[bit / 8] >> (bit % 8)) & 1) == expected);
  }
}

}  // namespace
}  // namespace pq
