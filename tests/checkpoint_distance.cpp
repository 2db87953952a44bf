// checkpoint_distance A B START: how far two tuned checkpoints of one model lie apart, as a share of the way that A
// came from START (the same quantization, not tuned). Prints "scales X codes Y": X of the weights' scales, Y the share
// of codes in which A and B differ by that of A and START.
#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <exception>
#include <vector>

#include "io/quantized_checkpoint.h"

namespace {

struct Distance {
  double scales = 0;  // squares of relative differences
  double codes = 0;   // bytes of packed codes that differ
};

Distance distance(const pq::io::QuantizedCheckpoint& a, const pq::io::QuantizedCheckpoint& b) {
  Distance result;
  for (std::int64_t index = 0; index < a.spec().block_count; ++index) {
    const pq::QuantizedBlock one = a.block(index);
    const pq::QuantizedBlock other = b.block(index);
    for (const pq::LinearId i : pq::all_linears) {
      const auto& left = one.linears[i];
      const auto& right = other.linears[i];
      for (std::size_t j = 0; j < left.scales.size(); ++j) {
        const double relative = right.scales.at(j) / left.scales[j] - 1;
        result.scales += relative * relative;
      }
      for (std::size_t j = 0; j < left.codes.size(); ++j) result.codes += left.codes[j] != right.codes.at(j) ? 1 : 0;
    }
  }
  return result;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc != 4) throw std::runtime_error("usage: checkpoint_distance A B START");
    const auto a = pq::io::QuantizedCheckpoint::open(argv[1]);
    const Distance apart = distance(a, pq::io::QuantizedCheckpoint::open(argv[2]));
    const Distance tuned = distance(a, pq::io::QuantizedCheckpoint::open(argv[3]));
    if (tuned.scales == 0 || tuned.codes == 0) throw std::runtime_error("A is not tuned");
    fmt::print("scales {:.6f} codes {:.6f}\n", std::sqrt(apart.scales / tuned.scales), apart.codes / tuned.codes);
    return 0;
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 1;
  }
}
