// Checkpoints of other programs through the runtime: their logits are those of transformers and compressed-tensors.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "io/safetensors.h"
#include "runtime/model.h"
#include "runtime/runtime_model.h"
#include "verify/verify.h"

namespace pq::runtime {
namespace {

namespace fs = std::filesystem;
const fs::path goldens = fs::path(PQ_SOURCE_DIR) / "tests" / "goldens" / "foreign";

std::vector<std::string> cases() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(goldens)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

template <typename T>
std::vector<T> values_of(const io::TensorView& view) {
  std::vector<T> values(view.bytes.size() / sizeof(T));
  std::memcpy(values.data(), view.bytes.data(), view.bytes.size());
  return values;
}

class ForeignModel : public ::testing::TestWithParam<std::string> {
 protected:
  /// The largest difference from the golden's logits, over the largest logit.
  double logit_error(const ModelOptions& options) const {
    RuntimeModel model(Model::load(path_.string(), options));
    model.run(tokens_, 2);
    std::vector<float> logits(expected_.size());
    model.logits(0, static_cast<std::int64_t>(tokens_.size()), logits);
    double error = 0;
    double largest = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      error = std::max(error, static_cast<double>(std::fabs(logits[i] - expected_[i])));
      largest = std::max(largest, static_cast<double>(std::fabs(expected_[i])));
    }
    return error / largest;
  }

  const fs::path path_ = goldens / GetParam();
  const io::SafetensorsFile golden_{path_ / "expected.safetensors"};
  const std::vector<std::int32_t> tokens_ = values_of<std::int32_t>(golden_.tensor("tokens"));
  const std::vector<float> expected_ = values_of<float>(golden_.tensor("logits"));
};

TEST_P(ForeignModel, LogitsAreThoseOfTheOtherPrograms) {
  // Codes of 16 bits stand for the activations of weight-only layers; where activations have 8, one that lies between
  // two codes may come out as either.
  const bool quantized_inputs = GetParam().find("a8") != std::string::npos;
  EXPECT_LT(logit_error({.kv_bits = 32, .float_attention = true}), quantized_inputs ? 2e-2 : 1e-3);
}

TEST_P(ForeignModel, PassesVerify) {
  const auto model = Model::load(path_.string(), {});
  const VerifyReport report = verify(*model, open_model(path_.string()), tokens_);
  for (const VerifyRow& row : report.rows) EXPECT_TRUE(row.passed()) << row.tensor << " " << row.share;
  EXPECT_TRUE(report.passed());
}

INSTANTIATE_TEST_SUITE_P(All, ForeignModel, ::testing::ValuesIn(cases()), [](const auto& test) {
  std::string name = test.param;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

}  // namespace
}  // namespace pq::runtime
