// The sample model's documented figures, end to end. Minutes of work, so it stands apart: ctest --preset slow.
#include <gtest/gtest.h>

#include <filesystem>

#include "eval/evaluation_text.h"
#include "eval/perplexity.h"
#include "pipeline/pipeline.h"
#include "pipeline/preparation.h"

namespace pq::lab {
namespace {

namespace fs = std::filesystem;

class SampleModel : public testing::Test {
 protected:
  static constexpr double documented_perplexity = 88.757;
  static constexpr double documented_with_prefix = 90.033;

  void SetUp() override {
    if (!fs::exists(shared / "data/wikitext2/wiki.valid.raw")) GTEST_SKIP() << shared << " is not there";
    text.path = (shared / "data/wikitext2/wiki.valid.raw").string();
    text.lengths = {512};
    preparation = std::make_unique<quant::Preparation>((fs::path(PQ_SOURCE_DIR) / "examples/sample-model").string(),
                                                       (shared / "data/calibration/books.jsonl").string(),
                                                       at::TensorOptions().dtype(at::kFloat));
    stream = text.load(preparation->tokenizer(), preparation->checkpoint().spec());
  }
  double perplexity(LanguageModel& model) const { return eval::perplexity(model, stream, text.passes()[0]).perplexity; }
  double quantized(const std::string& name) {
    const Recipe recipe = named_recipe(name);
    quant::InMemoryModel memory(preparation->checkpoint().spec(), recipe);
    quant::quantize_model(preparation->checkpoint(), recipe, preparation->prefix(recipe),
                          preparation->calibration(recipe), preparation->options(), memory);
    return perplexity(*memory.transformer(preparation->options()));
  }

  const at::NoGradGuard no_grad;
  const fs::path shared = PQ_SHARED_DIR;
  eval::EvaluationText text;
  std::unique_ptr<quant::Preparation> preparation;
  std::vector<std::int32_t> stream;
};

TEST_F(SampleModel, HasTheDocumentedPerplexityWithAndWithoutThePrefix) {
  const auto model = nn::Transformer::load(preparation->checkpoint(), preparation->options());
  EXPECT_NEAR(perplexity(*model), documented_perplexity, 0.001 * documented_perplexity);
  model->set_prefix(model->prefix_key_values({8142, 13, 1}));
  EXPECT_NEAR(perplexity(*model), documented_with_prefix, 0.001 * documented_with_prefix);
}

TEST_F(SampleModel, HasTheDocumentedPrefixForEverySeed) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    Recipe recipe = named_recipe("w4a4kv4-static");
    recipe.seed = seed;
    EXPECT_EQ(preparation->prefix(recipe), (std::vector<std::int32_t>{8142, 13, 1})) << seed;
  }
}

TEST_F(SampleModel, StaticFourBitsCostAtMostTheBound) {
  EXPECT_LE(quantized("w4a4kv4-static"), 1.055 * documented_with_prefix);
  EXPECT_LE(quantized("w4a8kv4-static"), 1.02 * documented_with_prefix);
}

TEST_F(SampleModel, DynamicFourBitsCostAtMostTheBound) {
  EXPECT_LE(quantized("w4a4kv4-dynamic"), 1.04 * documented_with_prefix);
  EXPECT_LE(quantized("w4a8kv4-dynamic"), 1.015 * documented_with_prefix);
}

}  // namespace
}  // namespace pq::lab
