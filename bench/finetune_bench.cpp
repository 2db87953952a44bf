// One tuning step of a block with its fake quantizers against the same step without them, in interleaved pairs.
//
//   OPENBLAS_CORETYPE=SkylakeX finetune_bench [--recipe NAME] [--shape sample|tinyllama] [--length N] [--pairs N]
//   [--compute bf16]
//
// A step: a batch of 4 sequences forward and backward, then AdamW on all weights and quantizer parameters. The plain
// step is the same program on a recipe of 16 bits everywhere, rotations included: weights alone are tuned.

#include <ATen/Parallel.h>
#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "base/memory_usage.h"
#include "bench_shapes.h"
#include "nn/block_for_test.h"
#include "nn/model_context.h"
#include "quant/block_start.h"
#include "tuning/adamw.h"
#include "tuning/tunable_block.h"
#include "tuning/tuning_step.h"

namespace {

using pq::ModelSpec;
using pq::Recipe;
using pq::bench::median;
using pq::bench::milliseconds_of;

/// A block that is tuned, with all that its steps need.
class TunedBlock {
 public:
  TunedBlock(const ModelSpec& spec, const Recipe& recipe, const pq::quant::TuningStreams& streams)
      : recipe_(recipe),
        model_(spec, pq::online_rotations(spec, recipe.rotate), streams.input.size(1), at::kFloat),
        shards_(4, 0, 4, 0, 1),
        run_{recipe_, shards_, pq::Communicator::world(), nullptr},
        context_(model_.block(0)),
        block_(start(spec, streams.input), recipe_, 0, pq::quant::compute_type(recipe_), at::kFloat),
        step_({model_, 0, nullptr}, streams, run_),
        optimizer_(values()) {
    for (const auto& parameter : block_.parameters()) rates_.push_back(parameter.rate);
  }

  void step() {
    step_.gradients(block_, {{0, 1, 2, 3}, 4});
    optimizer_.step(rates_);
    block_.keep_in_range();
    for (const at::Tensor& value : values()) value.mutable_grad() = at::Tensor();
  }

 private:
  std::vector<at::Tensor> values() const {
    std::vector<at::Tensor> tensors;
    for (const auto& parameter : block_.parameters()) tensors.push_back(parameter.value);
    return tensors;
  }

  pq::quant::BlockStart start(const ModelSpec& spec, const at::Tensor& input) const {
    at::manual_seed(0);
    const pq::nn::Block block = pq::nn::random_block(spec, at::kFloat, 0.02);
    pq::quant::SiteStatistics statistics;
    const auto watch = [&](pq::Site site, const at::Tensor& x) {
      pq::quant::add_range(statistics, site, x);
      return x;
    };
    pq::nn::forward(block, context_, input, watch);
    return find_start(block, context_, {}, statistics, recipe_, 0);
  }

  Recipe recipe_;
  pq::nn::ModelContext model_;
  pq::quant::SequenceShards shards_;
  pq::quant::TuningRun run_;
  pq::nn::BlockContext context_;
  pq::quant::TunableBlock block_;
  pq::quant::TuningStep step_;
  pq::quant::AdamW optimizer_;
  std::vector<double> rates_;
};

ModelSpec sample_shape() {
  ModelSpec spec = pq::bench::tinyllama_shape();
  spec.hidden_size = 256;
  spec.intermediate_size = 704;
  spec.head_count = 4;
  spec.kv_head_count = 2;
  spec.vocab_size = 8192;
  return spec;
}

}  // namespace

int main(int argc, char** argv) {
  std::string name = "w4a4kv4-static";
  std::string shape = "sample";
  std::string compute = "float32";
  std::int64_t length = 512;
  int pairs = 15;
  int threads = 2;
  CLI::App app{"A tuning step of a block with its fake quantizers against the same step without them"};
  app.add_option("--recipe", name)->capture_default_str();
  app.add_option("--shape", shape)->check(CLI::IsMember({"sample", "tinyllama"}))->capture_default_str();
  app.add_option("--compute", compute)->capture_default_str();
  app.add_option("--length", length, "Tokens a sequence; a batch has 4")->capture_default_str();
  app.add_option("--pairs", pairs)->capture_default_str();
  app.add_option("--threads", threads)->capture_default_str();
  CLI11_PARSE(app, argc, argv);

  const at::NoGradGuard no_grad;
  at::set_num_threads(threads);
  const ModelSpec spec = shape == "sample" ? sample_shape() : pq::bench::tinyllama_shape();
  Recipe recipe = pq::named_recipe(name);
  recipe.search.weight = recipe.search.activation = recipe.search.kv = recipe.search.gptq = false;
  pq::apply_setting(recipe, "finetune.compute=" + compute);
  Recipe plain = recipe;
  plain.weight.bits = plain.activation.bits = plain.kv.bits = 16;

  at::manual_seed(1);
  pq::quant::TuningStreams streams;
  streams.input = at::randn({4, length, spec.hidden_size});
  streams.target = at::randn({4, length, spec.hidden_size});
  const pq::PrivateMemoryPeak memory;
  TunedBlock quantized(spec, recipe, streams);
  TunedBlock unquantized(spec, plain, streams);
  std::vector<double> with;
  std::vector<double> without;
  std::vector<double> ratios;
  for (int pair = -2; pair < pairs; ++pair) {
    const double a = milliseconds_of([&] { quantized.step(); });
    const double b = milliseconds_of([&] { unquantized.step(); });
    if (pair < 0) continue;
    with.push_back(a);
    without.push_back(b);
    ratios.push_back(a / b);
  }
  fmt::print("{} shape, {}, 4 x {} tokens, {}, {} threads: {:.1f} ms with fake quantizers, {:.1f} ms without\n", shape,
             name, length, compute, at::get_num_threads(), median(with), median(without));
  fmt::print("ratio: median of {} pairs {:.3f}; both blocks together take {:.2f} GiB of private memory\n", pairs,
             median(ratios), static_cast<double>(memory.bytes()) / (1 << 30));
  return 0;
}
