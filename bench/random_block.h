#pragma once

#include <ATen/ATen.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "model/model_spec.h"
#include "nn/block.h"

namespace pq::bench {

inline double milliseconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

inline ModelSpec tinyllama_shape() {
  ModelSpec spec;
  spec.hidden_size = 2048;
  spec.intermediate_size = 5632;
  spec.head_count = 32;
  spec.kv_head_count = 4;
  spec.head_dim = 64;
  spec.rms_norm_eps = 1e-5;
  spec.vocab_size = 32000;
  return spec;
}

inline nn::Block random_block(const ModelSpec& spec) {
  nn::Block block;
  for (const NormRow& norm : all_norms(spec)) block.norms[norm.id] = at::ones({norm.size});
  for (const LinearId id : all_linears) {
    const LinearShape shape = linear_shape(spec, id);
    block[id].weight = at::randn({shape.out_features, shape.in_features}) * 0.02;
  }
  return block;
}

}  // namespace pq::bench
