#include "pipeline/calibration.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "base/error.h"

namespace pq::quant {
namespace {

std::vector<std::vector<std::int32_t>> counting_documents(const std::vector<std::int64_t>& lengths) {
  std::vector<std::vector<std::int32_t>> documents;
  std::int32_t next = 0;
  for (const std::int64_t length : lengths) {
    documents.emplace_back();
    for (std::int64_t i = 0; i < length; ++i) documents.back().push_back(next++);
  }
  return documents;
}

TEST(Calibration, CropsEachLongDocumentOnce) {
  const auto documents = counting_documents({100, 5, 100, 100, 11, 10});
  const CalibrationSet set = draw_sequences(documents, {4, 10}, -1, 3, "s", "x");
  ASSERT_EQ(set.samples(), 4);
  std::set<std::int32_t> used;
  for (const auto& sequence : set.sequences) {
    ASSERT_EQ(sequence.size(), 10U);
    for (std::size_t i = 1; i < sequence.size(); ++i)
      EXPECT_EQ(sequence[i], sequence[i - 1] + 1);  // one document, in order
    used.insert(sequence.front() < 100 ? 0 : sequence.front() < 205 ? 1 : sequence.front() < 305 ? 2 : 3);
  }
  EXPECT_EQ(used.size(), 4U);  // the document of 10 tokens is too short, that of 11 is not
}

TEST(Calibration, JoinsShortDocumentsIntoDisjointWindows) {
  const auto documents = counting_documents({7, 9, 8, 6, 10});
  const CalibrationSet set = draw_sequences(documents, {4, 10}, 999, 3, "s", "x");
  ASSERT_EQ(set.samples(), 4);
  std::multiset<std::int32_t> seen;
  for (const auto& sequence : set.sequences) seen.insert(sequence.begin(), sequence.end());
  for (std::int32_t id = 0; id < 40; ++id) EXPECT_LE(seen.count(id), 1U);
  EXPECT_GE(seen.count(999), 3U);
}

TEST(Calibration, TheSeedDecidesAndTooLittleIsUsedWhole) {
  const auto documents = counting_documents({500, 500, 500});
  const auto draw = [&](std::uint64_t seed) {
    return draw_sequences(documents, {2, 50}, -1, seed, "s", "x").sequences;
  };
  EXPECT_EQ(draw(1), draw(1));
  EXPECT_NE(draw(1), draw(2));
  const CalibrationSet all = draw_sequences(counting_documents({25}), {8, 10}, -1, 1, "s", "x");
  EXPECT_EQ(all.samples(), 2);
  const CalibrationSet tiny = draw_sequences(counting_documents({6}), {8, 10}, -1, 1, "s", "x");
  EXPECT_EQ(tiny.length(), 6);
  EXPECT_THROW(draw_sequences({{}, {}}, {8, 10}, -1, 1, "s", "x"), InputError);
}

TEST(Calibration, ShapesFitTheContext) {
  EXPECT_EQ(fit_to_context(8, 1024, 512).samples, 16);
  EXPECT_EQ(fit_to_context(8, 1024, 512).length, 512);
  EXPECT_EQ(fit_to_context(8, 1024, 2048).samples, 8);
  EXPECT_EQ(fit_to_context(3, 1000, 300).samples, 10);
}

}  // namespace
}  // namespace pq::quant
