#include "measure/shapes.h"

#include <fmt/format.h>

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

const std::vector<Shape>& shapes() {
  static const std::vector<Shape> rows{
      {"llama-3.2-1b", llama(16, 2048, 8192, 32, 8, 64, 128256, 131072, 500000)},
      {"smollm-135m", llama(30, 576, 1536, 9, 3, 64, 49152, 2048, 10000)},
      {"tinyllama-1.1b", llama(22, 2048, 5632, 32, 4, 64, 32000, 2048, 10000)},
      {"llama-3-8b", llama(32, 4096, 14336, 32, 8, 128, 128256, 8192, 500000)},
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
  for (const Shape& shape : shapes()) {
    if (shape.name == name) return shape.spec;
  }
  throw InputError(fmt::format("--shape {}", name), "there is no shape of this name",
                   did_you_mean(name, shape_names()));
}

}  // namespace pq::measure
