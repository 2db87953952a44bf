#include "runtime/runtime_model.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "base/index.h"
#include "base/random.h"
#include "kernels/test_tables.h"
#include "model/spec_for_test.h"
#include "runtime/model_loader.h"

namespace pq::runtime {
namespace {

std::shared_ptr<const Model> small_model(const std::string& recipe, const kernels::KernelTable& table,
                                         const ModelOptions& options = {}, std::int64_t vocab = 50) {
  ModelSpec spec = small_spec(64, 96, 4, 2, 16);
  spec.vocab_size = vocab;
  const Recipe settled = recipe.empty() ? Recipe{} : named_recipe(recipe);
  return std::make_shared<const Model>(build_model(random_source(spec, settled, 3), options, table));
}

std::vector<std::int32_t> tokens_of(std::size_t count, std::uint64_t seed) {
  Random random(seed, "tokens");
  std::vector<std::int32_t> tokens;
  while (tokens.size() < count) tokens.push_back(static_cast<std::int32_t>(random.below(50)));
  return tokens;
}

/// Families of several sizes, with branches that are empty, and answers that begin in the stem.
std::vector<SequenceFamily> some_families() {
  std::vector<SequenceFamily> families;
  const std::vector<std::vector<std::size_t>> branches{{3, 5, 0, 1}, {7}, {0}, {40, 2, 9, 9, 9, 9, 9, 30}};
  std::uint64_t seed = 0;
  for (std::size_t i = 0; i < branches.size(); ++i) {
    SequenceFamily family{tokens_of(5 + 17 * i, ++seed), {}};
    for (const std::size_t length : branches[i]) {
      family.branches.push_back({tokens_of(length, ++seed), static_cast<std::int64_t>(length % 4 + 2)});
    }
    families.push_back(std::move(family));
  }
  return families;
}

std::vector<float> logits_behind(LanguageModel& model, std::int64_t row) {
  std::vector<float> logits(index(model.spec().vocab_size));
  model.logits(row, 1, logits);
  return logits;
}

/// The largest difference between a family's logits and those of its sequences run alone; 1e9 for a wrong number.
double distance_from_separate(LanguageModel& model, const std::vector<SequenceFamily>& families,
                              LanguageModel& separate) {
  const auto rows = model.run_families(families);
  double largest = 0;
  std::size_t branch = 0;
  for (const SequenceFamily& family : families) {
    for (const SequenceFamily::Branch& one : family.branches) {
      std::vector<std::int32_t> tokens = family.stem;
      tokens.insert(tokens.end(), one.tokens.begin(), one.tokens.end());
      separate.run(tokens, 1);
      if (static_cast<std::int64_t>(rows[branch].size()) != one.wanted) return 1e9;
      for (std::int64_t i = 0; i < one.wanted; ++i) {
        const auto expected = logits_behind(separate, static_cast<std::int64_t>(tokens.size()) - one.wanted + i);
        const auto actual = logits_behind(model, rows[branch][index(i)]);
        for (std::size_t id = 0; id < actual.size(); ++id) {
          largest = std::max(largest, std::fabs(static_cast<double>(actual[id]) - static_cast<double>(expected[id])));
        }
      }
      ++branch;
    }
  }
  return largest;
}

using kernels::kernel_tables;
using kernels::table_test_name;
using RuntimeModelOf = kernels::TableTest;
PQ_FOR_EVERY_TABLE(RuntimeModelOf);

TEST_P(RuntimeModelOf, FamiliesHaveTheLogitsOfTheirSequences) {
  for (const char* recipe : {"", "w4a8kv4-static", "w4a4kv4-dynamic", "w3a16g128"}) {
    const auto loaded = small_model(recipe, table());
    RuntimeModel model(loaded);
    RuntimeModel separate(loaded);
    EXPECT_LT(distance_from_separate(model, some_families(), separate), 2e-4) << recipe;
    // Lanes that have held longer sequences.
    EXPECT_LT(distance_from_separate(model, {some_families()[0]}, separate), 2e-4) << recipe;
  }
}

// The test above would notice stems that are not forgotten, or rows beside the right ones.
TEST(RuntimeModel, OtherSequencesHaveOtherLogits) {
  const auto loaded = small_model("", *kernels::kernel_tables().front());
  RuntimeModel model(loaded);
  RuntimeModel separate(loaded);
  auto families = some_families();
  const auto rows = model.run_families(families);
  separate.run(std::vector<std::int32_t>{1, 2, 3, 4, 5}, 1);
  const auto actual = logits_behind(model, rows[0][0]);
  const auto other = logits_behind(separate, 4);
  double largest = 0;
  for (std::size_t id = 0; id < actual.size(); ++id) {
    largest = std::max(largest, std::fabs(static_cast<double>(actual[id] - other[id])));
  }
  EXPECT_GT(largest, 1e-2);
}

TEST(RuntimeModel, FamiliesOfTheInterfaceAgree) {
  // LanguageModel's own run_families: sequences beside each other, filled up.
  class Plain : public RuntimeModel {
   public:
    using RuntimeModel::RuntimeModel;
    std::vector<std::vector<std::int64_t>> run_families(std::span<const SequenceFamily> families) override {
      return LanguageModel::run_families(families);
    }
  };
  const auto loaded = small_model("", *kernels::kernel_tables().front());
  Plain model(loaded);
  RuntimeModel separate(loaded);
  EXPECT_LT(distance_from_separate(model, some_families(), separate), 2e-4);
}

TEST_P(RuntimeModelOf, TilesHoldTheLogits) {
  for (const int bits : {16, 8}) {
    ModelOptions options;
    options.lm_head_bits = bits;
    const auto loaded = small_model("", table(), options, 1300);  // two tiles and a part of one
    RuntimeModel model(loaded);
    model.run(tokens_of(300, 1), 1);
    std::vector<std::int64_t> rows(300);
    std::iota(rows.rbegin(), rows.rend(), 0);
    const std::size_t vocab = index(model.spec().vocab_size);
    std::vector<float> tiled(rows.size() * vocab, NAN);
    model.logit_tiles(rows, [&](const LogitTile& tile) {
      EXPECT_EQ(tile.first_id % LanguageModel::tile_ids, 0);
      for (std::int64_t row = 0; row < tile.rows; ++row) {
        std::copy_n(tile.values + row * tile.stride, tile.ids,
                    tiled.data() + index(tile.first_row + row) * vocab + index(tile.first_id));
      }
    });
    for (std::size_t i = 0; i < rows.size(); i += 37) {
      const std::vector<float> whole = logits_behind(model, rows[i]);
      for (std::size_t id = 0; id < vocab; ++id) ASSERT_NEAR(tiled[i * vocab + id], whole[id], 1e-4) << bits;
    }
  }
}

}  // namespace
}  // namespace pq::runtime
