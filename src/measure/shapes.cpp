#include "measure/shapes.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/suggest.h"

namespace pq::measure {
namespace {

struct Shape {
  std::string_view name;
  ModelSpec spec;
};

ModelSpec llama(std::int64_t blocks, std::int64_t hidden, std::int64_t ffn, std::int64_t heads, std::int64_t kv_heads,
                std::int64_t head_dim, std::int64_t vocab, std::int64_t positions, double theta) {
  ModelSpec spec;
  spec.block_count = blocks;
  spec.hidden_size = hidden;
  spec.intermediate_size = ffn;
  spec.head_count = heads;
  spec.kv_head_count = kv_heads;
  spec.head_dim = head_dim;
  spec.vocab_size = vocab;
  spec.max_positions = positions;
  spec.rms_norm_eps = 1e-5;
  spec.block_pattern = {{.rope = PlainRope{theta}}};
  return spec;
}

ModelSpec qwen3() {
  ModelSpec spec = llama(28, 1024, 3072, 16, 8, 128, 151936, 40960, 1000000);
  spec.family = find_family("qwen3");
  spec.qk_norm = QkNorm::per_head;
  return spec;
}

ModelSpec phi4_mini() {
  ModelSpec spec = llama(32, 3072, 8192, 24, 8, 128, 200064, 4096, 10000);
  spec.family = find_family("phi3");
  spec.rotary_width = 96;
  spec.block_pattern = {{.rope = LongRope{.theta = 10000, .factors = std::vector<double>(48, 1.0), .amplitude = 1.19}}};
  return spec;
}

ModelSpec gemma3(std::int64_t blocks, std::int64_t hidden, std::int64_t ffn) {
  ModelSpec spec = llama(blocks, hidden, ffn, 4, 1, 256, 262144, 32768, 1000000);
  spec.family = find_family("gemma3_text");
  spec.qk_norm = QkNorm::per_head;
  spec.norm_placement = NormPlacement::sandwich;
  spec.activation = Activation::gelu_tanh;
  spec.embedding_scale = std::sqrt(static_cast<double>(hidden));
  const BlockSpec sliding{.window = 512, .rope = PlainRope{10000}};
  spec.block_pattern = {sliding, sliding, sliding, sliding, sliding, {.rope = PlainRope{1000000}}};
  return spec;
}

/// The same sizes with Llama's arithmetic.
ModelSpec as_llama(const ModelSpec& spec) {
  return llama(spec.block_count, spec.hidden_size, spec.intermediate_size, spec.head_count, spec.kv_head_count,
               spec.head_dim, spec.vocab_size, spec.max_positions, 10000);
}

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> rows{
      {"llama-3.2-1b", llama(16, 2048, 8192, 32, 8, 64, 128256, 131072, 500000)},
      {"smollm-135m", llama(30, 576, 1536, 9, 3, 64, 49152, 2048, 10000)},
      {"tinyllama-1.1b", llama(22, 2048, 5632, 32, 4, 64, 32000, 2048, 10000)},
      {"llama-3-8b", llama(32, 4096, 14336, 32, 8, 128, 128256, 8192, 500000)},
      {"qwen3-0.6b", qwen3()},
      {"phi-4-mini", phi4_mini()},
      {"gemma-3-270m", gemma3(18, 640, 2048)},
      {"gemma-3-1b", gemma3(26, 1152, 6912)},
  };
  return rows;
}

}  // namespace

std::vector<std::string> shape_names() {
  std::vector<std::string> names;
  for (const Shape& shape : shapes()) names.emplace_back(shape.name);
  return names;
}

ModelSpec named_shape(std::string_view name) {
  constexpr std::string_view plain = "/llama";
  const bool as_plain = name.ends_with(plain);
  const std::string_view base = as_plain ? name.substr(0, name.size() - plain.size()) : name;
  for (const Shape& shape : shapes()) {
    if (shape.name == base) return as_plain ? as_llama(shape.spec) : shape.spec;
  }
  throw InputError(fmt::format("--shape {}", name), "there is no shape of this name",
                   did_you_mean(name, shape_names()));
}

}  // namespace pq::measure
