#include "runtime/model_parts.h"

#include <cmath>

#include "base/index.h"
#include "numerics/quantize.h"

namespace pq::runtime {

ModelParts::ModelParts(const ModelSpec& model_spec, const Recipe& model_recipe, const ModelOptions& model_options,
                       const kernels::KernelTable& kernel_table)
    : spec(model_spec), recipe(model_recipe), options(model_options), table(kernel_table) {}

std::vector<KvPlan> ModelParts::kv_plans() const {
  std::vector<KvPlan> plans;
  for (const PackedBlock& block : blocks) plans.push_back(block.kv);
  return plans;
}

std::uint64_t ModelParts::kv_bytes_per_token() const {
  std::uint64_t bytes = 0;
  for (const PackedBlock& block : blocks) bytes += block.kv.bytes_per_token();
  return bytes;
}

kernels::KvHead ModelParts::head(const KvCache& cache, std::int64_t block, std::int64_t kv_head) const {
  const PackedBlock& of = blocks[index(block)];
  kernels::KvHead result = cache.head(block, kv_head, of.key, of.value);
  if (prefix() == 0) return result;
  const std::size_t offset = index(kv_head * prefix() * of.kv.layout.padded_dim);
  result.prefix_key = of.prefix_key.as<float>().data() + offset;
  result.prefix_value = of.prefix_value.as<float>().data() + offset;
  return result;
}

void ModelParts::embed(std::int32_t token, std::span<float> out) const {
  io::rows_to_float32(embedding, token, 1, out);
  const float largest = max_abs(out);
  if (!std::isfinite(largest)) io::refuse_not_finite(embedding);
  if (options.lm_head_bits == 8) fake_quantize(out, symmetric_scale(largest, 1, 8), 0, quant_range(8, true));
  if (spec.embedding_scale == 1) return;
  for (float& value : out) value *= static_cast<float>(spec.embedding_scale);
}

}  // namespace pq::runtime
