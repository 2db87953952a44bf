#pragma once

#include <algorithm>
#include <functional>
#include <vector>

#include "base/stopwatch.h"
#include "model/model_spec.h"

namespace pq::bench {

inline double milliseconds_of(const std::function<void()>& work) {
  const Stopwatch watch;
  work();
  return 1e3 * watch.seconds();
}

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

inline ModelSpec tinyllama_shape() {
  ModelSpec spec;
  spec.hidden_size = 2048;
  spec.block_count = 1;
  spec.intermediate_size = 5632;
  spec.head_count = 32;
  spec.kv_head_count = 4;
  spec.head_dim = 64;
  spec.rms_norm_eps = 1e-5;
  spec.vocab_size = 32000;
  return spec;
}

}  // namespace pq::bench
