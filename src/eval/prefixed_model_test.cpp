#include "eval/prefixed_model.h"

#include <gtest/gtest.h>

#include "model/spec_for_test.h"

namespace pq::eval {
namespace {

/// Logits that name the row that they belong to.
class Rows : public LanguageModel {
 public:
  explicit Rows(ModelSpec spec) : spec_(std::move(spec)) {}
  const ModelSpec& spec() const override { return spec_; }
  std::int64_t prefix_length() const override { return 0; }
  void run(std::span<const std::int32_t> tokens, std::int64_t sequences) override {
    tokens_.assign(tokens.begin(), tokens.end());
    sequences_ = sequences;
  }
  void logits(std::int64_t first, std::int64_t count, std::span<float> out) override {
    for (std::int64_t row = 0; row < count; ++row) {
      for (std::int64_t id = 0; id < spec_.vocab_size; ++id) {
        out[static_cast<std::size_t>(row * spec_.vocab_size + id)] =
            static_cast<float>(tokens_[static_cast<std::size_t>(first + row)]);
      }
    }
  }

  std::vector<std::int32_t> tokens_;
  std::int64_t sequences_ = 0;

 private:
  ModelSpec spec_;
};

TEST(PrefixedModel, RowsStayThoseOfTheText) {
  ModelSpec spec = small_spec(16, 20, 4, 2, 4);
  spec.vocab_size = 3;
  Rows inner(spec);
  PrefixedModel model(inner, {90, 91});
  model.run(std::vector<std::int32_t>{1, 2, 3, 4, 5, 6}, 2);
  EXPECT_EQ(inner.tokens_, (std::vector<std::int32_t>{90, 91, 1, 2, 3, 90, 91, 4, 5, 6}));
  EXPECT_EQ(inner.sequences_, 2);
  std::vector<float> logits(4 * 3);
  model.logits(1, 4, logits);  // over the end of a sequence
  for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(logits[3 * i], static_cast<float>(2 + i));
  std::vector<float> seen(3);
  model.logit_tiles(std::vector<std::int64_t>{0, 3, 5}, [&](const LogitTile& tile) {
    for (std::int64_t row = 0; row < tile.rows; ++row) {
      seen[static_cast<std::size_t>(tile.first_row + row)] = tile.values[row * tile.stride];
    }
  });
  EXPECT_EQ(seen, (std::vector<float>{1, 4, 6}));
}

}  // namespace
}  // namespace pq::eval
