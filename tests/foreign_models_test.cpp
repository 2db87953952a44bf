// Checkpoints of other programs through the LibTorch half, as pq eval --against and --reference read them.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "io/model_source.h"
#include "nn/transformer.h"
#include "quant/quantized_model.h"

namespace pq {
namespace {

namespace fs = std::filesystem;
const fs::path goldens = fs::path(PQ_SOURCE_DIR) / "tests" / "goldens" / "foreign";

at::Tensor golden_tensor(const io::SafetensorsFile& file, const char* name, at::ScalarType type) {
  const io::TensorView view = file.tensor(name);
  at::Tensor values = at::empty(view.shape, type);
  EXPECT_EQ(values.nbytes(), view.bytes.size());
  std::memcpy(values.data_ptr(), view.bytes.data(), view.bytes.size());
  return values;
}

double logit_error(const io::ModelSource& source, const io::SafetensorsFile& golden) {
  const auto model = quant::load_quantized(source, at::TensorOptions().dtype(at::kFloat));
  const at::Tensor tokens = golden_tensor(golden, "tokens", at::kInt).to(at::kLong);
  const at::Tensor expected = golden_tensor(golden, "logits", at::kFloat);
  const at::NoGradGuard no_grad;
  const at::Tensor error = (model->head(model->hidden(tokens)) - expected).abs().max();
  return error.item<double>() / expected.abs().max().item<double>();
}

TEST(ForeignModels, LogitsAreThoseOfTheOtherPrograms) {
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator(goldens)) {
    SCOPED_TRACE(entry.path().filename().string());
    const io::SafetensorsFile golden(entry.path() / "expected.safetensors");
    io::ModelSource source = io::open_model_source(entry.path().string());
    // A value that lies between two codes of 8 bits may come out as either.
    const double bound = source.recipe.activation.enabled() ? 2e-2 : 1e-5;
    EXPECT_LT(logit_error(source, golden), bound);
    ++count;
    // Without what the scales and the order of the columns say, the logits are others.
    source.block = [block = source.block](std::int64_t index) {
      io::BlockSource changed = block(index);
      SiteTransform& order = changed.parameters.transforms[Site::down_input];
      if (order.empty()) {
        for (float& scale : changed.parameters.linears[LinearId::down].scales) scale = -scale;
      } else {
        order = {};
      }
      return changed;
    };
    EXPECT_GT(logit_error(source, golden), bound);
  }
  EXPECT_GE(count, 15U);
}

}  // namespace
}  // namespace pq
