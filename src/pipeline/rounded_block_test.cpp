#include "pipeline/rounded_block.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/half.h"
#include "base/random.h"
#include "io/test_files.h"
#include "nn/model_context.h"
#include "nn/transformer.h"

namespace pq::quant {
namespace {

const std::string sample = std::string(PQ_SOURCE_DIR) + "/examples/sample-model";  // in bfloat16
const at::TensorOptions floats = at::TensorOptions().dtype(at::kFloat);

class RoundedBlock : public testing::Test {
 protected:
  void SetUp() override {
    if (!rounds_products(checkpoint, floats)) GTEST_SKIP() << "no bfloat16 products on this processor";
  }
  const io::HfCheckpoint checkpoint = io::HfCheckpoint::open(sample);
};

// Every layer of a block, at row counts on both sides of those that the kernels and the work's parts are cut at.
TEST_F(RoundedBlock, LayersMultiplyInputsInBfloat16) {
  const nn::Block whole = nn::load_block(checkpoint, 1, floats);
  const nn::Block rounded = load_rounded_block(checkpoint, 1, floats);
  at::manual_seed(7);
  for (const LinearId id : all_linears) {
    const at::Tensor weight = whole[id].weight.to(at::kDouble);
    for (const std::int64_t tokens : {9, 70, 1030}) {
      const at::Tensor x = at::randn({2, tokens, weight.size(1)}, floats);
      const at::Tensor y = nn::apply(rounded[id], x);
      const at::Tensor in_bf16 = x.to(at::kBFloat16).to(at::kDouble);
      const at::Tensor exact = at::linear(in_bf16, weight);
      ASSERT_EQ(y.sizes(), exact.sizes());
      // Sums in float32, in any order: at most a rounding an addition.
      const at::Tensor bound =
          at::linear(in_bf16.abs(), weight.abs()) * (static_cast<double>(weight.size(1)) * 0x1p-24) + 1e-30;
      EXPECT_LE(((y - exact).abs() / bound).max().item<double>(), 1) << tensor_names::linear_in_block(id) << tokens;
      // Inputs that were not rounded would be far outside.
      EXPECT_GT(((y - at::linear(x.to(at::kDouble), weight)).abs() / bound).max().item<double>(), 1);
    }
  }
}

/// A small Qwen2 checkpoint (biases at q, k and v) in bfloat16.
void write_checkpoint_with_biases(const std::filesystem::path& directory) {
  Json config = io::testing::small_config();
  config["model_type"] = "qwen2";
  config["architectures"] = {"Qwen2ForCausalLM"};
  std::vector<io::TensorDeclaration> tensors = io::testing::tensors_for(config);
  for (io::TensorDeclaration& tensor : tensors) tensor.dtype = io::DType::bf16;
  write_file_atomically(directory / "config.json", config.dump());
  io::SafetensorsWriter writer(directory / "model.safetensors", tensors);
  Random random(5, "weights");
  for (const io::TensorDeclaration& tensor : tensors) {
    std::vector<std::uint16_t> values(tensor.byte_count() / sizeof(std::uint16_t));
    for (std::uint16_t& value : values) value = float_to_bf16(static_cast<float>(random.normal()));
    writer.append(tensor.name, std::as_bytes(std::span(values)));
  }
  writer.finish();
}

TEST_F(RoundedBlock, BiasesAreAdded) {
  const std::filesystem::path directory = std::filesystem::path(testing::TempDir()) / "pq_rounded_block_biases";
  std::filesystem::remove_all(directory);
  std::filesystem::create_directories(directory);
  write_checkpoint_with_biases(directory);
  const auto with_biases = io::HfCheckpoint::open(directory.string());
  const nn::Block whole = nn::load_block(with_biases, 1, floats);
  const nn::Block rounded = load_rounded_block(with_biases, 1, floats);
  const at::Tensor nothing = at::zeros({12, with_biases.spec().hidden_size}, floats);
  for (const LinearId id : {LinearId::q, LinearId::k, LinearId::v}) {
    ASSERT_TRUE(whole[id].bias.defined());
    EXPECT_FALSE(rounded[id].weight.defined()) << "the layer is not rounded";
    EXPECT_TRUE(at::equal(nn::apply(rounded[id], nothing), whole[id].bias.expand({12, -1})));
  }
}

TEST_F(RoundedBlock, ABlockStaysNearItself) {
  const nn::ModelContext contexts(checkpoint.spec(), {}, 64, floats);
  at::manual_seed(3);
  const at::Tensor x = at::randn({2, 64, checkpoint.spec().hidden_size}, floats);
  const at::Tensor whole = nn::forward(nn::load_block(checkpoint, 2, floats), contexts.block(2), x);
  const at::Tensor rounded = nn::forward(load_rounded_block(checkpoint, 2, floats), contexts.block(2), x);
  const double distance = ((whole - rounded).norm() / (whole - x).norm()).item<double>();
  EXPECT_LT(distance, 0.02);
  EXPECT_GT(distance, 1e-5);
}

TEST(RoundedBlockElsewhere, OtherTypesAndDevicesAreLoadedAsTheyAre) {
  const auto checkpoint = io::HfCheckpoint::open(sample);
  const at::TensorOptions doubles = at::TensorOptions().dtype(at::kDouble);
  EXPECT_FALSE(rounds_products(checkpoint, doubles));
  EXPECT_TRUE(load_rounded_block(checkpoint, 0, doubles)[LinearId::q].weight.defined());
}

}  // namespace
}  // namespace pq::quant
