// One block's forward pass against its own matrix products timed alone, in interleaved pairs.
//
//   OPENBLAS_CORETYPE=SkylakeX block_bench [--tokens N] [--pairs N] [--threads N] [--hidden N --ffn N --heads N
//   --kv-heads N]
//
// The matrix products are the seven linear layers and, tile by tile as attend() does them, Q K^T and P V. They write
// into buffers allocated before, so that nothing but arithmetic is in their time.

#include <ATen/Parallel.h>
#include <dlfcn.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>

#include "bench_shapes.h"
#include "nn/block_for_test.h"
#include "nn/model_context.h"

namespace {

using pq::LinearId;
using pq::ModelSpec;
using pq::bench::median;
using pq::bench::milliseconds_of;

std::string openblas(const char* symbol) {
  using Text = char* (*)();
  void* found = ::dlsym(RTLD_DEFAULT, symbol);
  return found != nullptr ? reinterpret_cast<Text>(found)() : "not OpenBLAS";
}

/// The products of one forward pass, and nothing else.
class Products {
 public:
  Products(const ModelSpec& spec, const pq::nn::Block& block, std::int64_t tokens) : spec_(spec), block_(block) {
    const std::int64_t group = spec.head_count / spec.kv_head_count;
    for (const LinearId id : pq::all_linears) {
      const pq::LinearShape shape = linear_shape(spec, id);
      inputs_.push_back(at::randn({tokens, shape.in_features}));
      outputs_.push_back(at::zeros({tokens, shape.out_features}));
      operations_ += 2.0 * static_cast<double>(tokens * shape.out_features * shape.in_features);
    }
    keys_ = at::randn({spec.kv_head_count, tokens, spec.head_dim});
    for (const auto& tile : pq::nn::attention_tiles(tokens, tokens, group, spec.window_of_block(0))) {
      const std::int64_t rows = tile.queries * group;
      tiles_.push_back(
          {tile, at::randn({rows, spec.head_dim}), at::zeros({rows, tile.keys}), at::zeros({rows, spec.head_dim})});
      operations_ += 4.0 * static_cast<double>(spec.kv_head_count * rows * tile.keys * spec.head_dim);
    }
  }

  void run() {
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      at::mm_out(outputs_[i], inputs_[i], block_[pq::all_linears[i]].weight.t());
    }
    for (Tile& tile : tiles_) {
      for (std::int64_t head = 0; head < spec_.kv_head_count; ++head) {
        const at::Tensor keys = keys_.select(0, head).narrow(0, tile.extent.first_key, tile.extent.keys);
        at::mm_out(tile.scores, tile.queries, keys.t());
        at::mm_out(tile.attended, tile.scores, keys);
      }
    }
  }

  double operations() const { return operations_; }

 private:
  struct Tile {
    pq::nn::AttentionTile extent;
    at::Tensor queries;   // [rows, head_dim]
    at::Tensor scores;    // [rows, keys]
    at::Tensor attended;  // [rows, head_dim]
  };
  const ModelSpec& spec_;
  const pq::nn::Block& block_;
  std::vector<at::Tensor> inputs_;
  std::vector<at::Tensor> outputs_;
  at::Tensor keys_;  // [kv_heads, tokens, head_dim]
  std::vector<Tile> tiles_;
  double operations_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  ModelSpec spec = pq::bench::tinyllama_shape();
  std::int64_t tokens = 2048;
  int pairs = 9;
  int threads = 2;

  CLI::App app{"A transformer block's forward pass against its own matrix products"};
  app.add_option("--tokens", tokens)->capture_default_str();
  app.add_option("--pairs", pairs)->capture_default_str();
  app.add_option("--threads", threads)->capture_default_str();
  app.add_option("--hidden", spec.hidden_size)->capture_default_str();
  app.add_option("--ffn", spec.intermediate_size)->capture_default_str();
  app.add_option("--heads", spec.head_count)->capture_default_str();
  app.add_option("--kv-heads", spec.kv_head_count)->capture_default_str();
  app.add_option("--head-dim", spec.head_dim)->capture_default_str();
  app.add_option("--window", spec.block_pattern[0].window)->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  const at::NoGradGuard no_grad;
  at::set_num_threads(threads);
  at::manual_seed(0);
  const char* core = std::getenv("OPENBLAS_CORETYPE");
  fmt::print("BLAS: {}, core {} (OPENBLAS_CORETYPE={}), {} threads\n", openblas("openblas_get_config"),
             openblas("openblas_get_corename"), core != nullptr ? core : "", at::get_num_threads());

  const pq::nn::Block block = pq::nn::random_block(spec, at::kFloat, 0.02);
  const pq::nn::ModelContext model(spec, {}, tokens, at::kFloat);
  const pq::nn::BlockContext context = model.block(0);
  const at::Tensor x = at::randn({1, tokens, spec.hidden_size});
  Products products(spec, block, tokens);

  const auto forward_pass = [&] { pq::nn::forward(block, context, x); };
  forward_pass();
  products.run();
  std::vector<double> forward_ms, products_ms, ratios;
  for (int i = 0; i < pairs; ++i) {
    products_ms.push_back(milliseconds_of([&] { products.run(); }));
    forward_ms.push_back(milliseconds_of(forward_pass));
    ratios.push_back(forward_ms.back() / products_ms.back());
  }
  const double giga = products.operations() * 1e-9;
  fmt::print("block forward    {:8.1f} ms  {:7.1f} GFLOPS\n", median(forward_ms), giga / median(forward_ms) * 1e3);
  fmt::print("matrix products  {:8.1f} ms  {:7.1f} GFLOPS  ({:.1f} GFLOP)\n", median(products_ms),
             giga / median(products_ms) * 1e3, giga);
  fmt::print("ratio            {:8.3f}     median of {} interleaved pairs\n", median(ratios), pairs);
  return 0;
}
