#include "measure/shapes.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "model/block_layout.h"

namespace pq::measure {
namespace {

TEST(Shapes, AreThePublishedOnes) {
  // Parameters without the embedding: Llama-3.2-1B 1.236e9 - 128256 * 2048, SmolLM-135M 134.5e6 - 49152 * 576,
  // TinyLlama 1.100e9 - 2 * 32000 * 2048, Llama-3-8B 8.030e9 - 2 * 128256 * 4096, Qwen3 0.596e9 - 151936 * 1024,
  // Phi-4-mini 3.836e9 - 200064 * 3072, Gemma 3 268e6 - 262144 * 640 and 1.000e9 - 262144 * 1152 (norms are left out
  // here too).
  const std::vector<std::pair<std::string, std::int64_t>> linears{
      {"llama-3.2-1b", 973078528}, {"smollm-135m", 106168320}, {"tinyllama-1.1b", 968884224},
      {"llama-3-8b", 6979321856},  {"qwen3-0.6b", 440401920},  {"phi-4-mini", 3221225472},
      {"gemma-3-270m", 100270080}, {"gemma-3-1b", 697761792}};
  EXPECT_EQ(linears.size(), shape_names().size());
  for (const auto& [name, parameters] : linears) {
    const ModelSpec spec = named_shape(name);
    EXPECT_EQ(block_parameters(spec) * spec.block_count, parameters) << name;
    EXPECT_EQ(spec.head_count % spec.kv_head_count, 0) << name;
    const ModelSpec plain = named_shape(name + "/llama");
    EXPECT_EQ(block_parameters(plain), block_parameters(spec)) << name;
    EXPECT_EQ(plain.norm_placement, NormPlacement::pre);
    EXPECT_EQ(plain.qk_norm, QkNorm::none);
  }
}

}  // namespace
}  // namespace pq::measure
