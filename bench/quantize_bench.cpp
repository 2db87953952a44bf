// What quantizing takes at a model's shape: a random checkpoint is written to a folder, then the time of finding the
// prefix against one plain forward pass, the time of each block, and the peak of private memory are printed.
//   quantize_bench --calibration FILE [--blocks 22] [--hidden 2048] [--ffn 5632] [--heads 32] [--kv-heads 4] [--recipe
//   NAME] [--pairs 3]
#include <fmt/format.h>

#include <ATen/Parallel.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/files.h"
#include "base/half.h"
#include "base/json.h"
#include "base/memory_usage.h"
#include "base/parallel_for.h"
#include "base/process.h"
#include "base/progress.h"
#include "base/random.h"
#include "base/stopwatch.h"
#include "io/hf_checkpoint.h"
#include "io/quantized_checkpoint.h"
#include "nn/batches.h"
#include "nn/model_context.h"
#include "nn/transformer.h"
#include "pipeline/pipeline.h"
#include "pipeline/prefix.h"
#include "pipeline/streams.h"

namespace {

namespace fs = std::filesystem;
using namespace pq;

struct Shape {
  std::int64_t blocks = 22;
  std::int64_t hidden = 2048;
  std::int64_t ffn = 5632;
  std::int64_t heads = 32;
  std::int64_t kv_heads = 4;
  std::int64_t vocab = 32000;
};

/// A llama checkpoint in bfloat16 with random weights of a trained model's size, and the sample model's tokenizer.
void write_checkpoint(const fs::path& directory, const Shape& shape) {
  fs::create_directories(directory);
  const Json config{{"architectures", {"LlamaForCausalLM"}},
                    {"model_type", "llama"},
                    {"hidden_act", "silu"},
                    {"hidden_size", shape.hidden},
                    {"intermediate_size", shape.ffn},
                    {"num_hidden_layers", shape.blocks},
                    {"num_attention_heads", shape.heads},
                    {"num_key_value_heads", shape.kv_heads},
                    {"max_position_embeddings", 2048},
                    {"rms_norm_eps", 1e-5},
                    {"rope_theta", 10000.0},
                    {"tie_word_embeddings", false},
                    {"vocab_size", shape.vocab},
                    {"bos_token_id", 1},
                    {"eos_token_id", 2},
                    {"torch_dtype", "bfloat16"}};
  write_file_atomically(directory / "config.json", config.dump(1));
  for (const char* name : {"tokenizer.json", "tokenizer_config.json"}) {
    fs::copy_file(fs::path(PQ_SOURCE_DIR) / "examples/sample-model" / name, directory / name,
                  fs::copy_options::overwrite_existing);
  }
  ModelSpec spec;
  spec.hidden_size = shape.hidden;
  spec.intermediate_size = shape.ffn;
  spec.block_count = shape.blocks;
  spec.head_count = shape.heads;
  spec.kv_head_count = shape.kv_heads;
  spec.head_dim = shape.hidden / shape.heads;
  spec.vocab_size = shape.vocab;
  auto declarations = io::required_tensors(spec);
  for (auto& declaration : declarations) declaration.dtype = io::DType::bf16;
  io::SafetensorsWriter writer(directory / "model.safetensors", declarations);
  for (std::size_t i = 0; i < declarations.size(); ++i) {
    const auto& declaration = declarations[i];
    std::vector<std::uint16_t> values(declaration.byte_count() / 2);
    const bool norm = declaration.shape.size() == 1;
    const float size = norm ? 0.0F : 1.0F / std::sqrt(static_cast<float>(declaration.shape[1]));
    parallel_for(values.size(), 1 << 16, [&](std::size_t begin, std::size_t end) {
      Random random(i, std::to_string(begin));
      for (std::size_t j = begin; j < end; ++j) {
        values[j] = float_to_bf16(norm ? 1.0F : size * static_cast<float>(random.normal()));
      }
    });
    writer.append(declaration.name, std::as_bytes(std::span(values)));
  }
  writer.finish();
}

double seconds_of(const std::function<void()>& work) {
  const Stopwatch watch;
  work();
  return watch.seconds();
}

/// One pass over the calibration set with nothing watched, block by block as the search for the prefix makes it.
void plain_forward(const io::HfCheckpoint& checkpoint, const quant::CalibrationSet& set,
                   const at::TensorOptions& options) {
  const nn::ModelContext model(checkpoint.spec(), {}, set.length(), options);
  at::Tensor stream = nn::embed(checkpoint, quant::to_token_tensor(set, options.device()), options);
  const std::int64_t batch = nn::sequences_together(set.length());
  for (std::int64_t index = 0; index < checkpoint.spec().block_count; ++index) {
    const nn::Block block = nn::load_block(checkpoint, index, options);
    const nn::BlockContext context = model.block(index);
    for (std::int64_t begin = 0; begin < set.samples(); begin += batch) {
      at::Tensor rows = stream.narrow(0, begin, std::min(batch, set.samples() - begin));
      rows.copy_(nn::forward(block, context, rows));
    }
  }
}

int run(int argc, char** argv) {
  Shape shape;
  std::string calibration;
  std::string recipe_name = "w4a4kv4-static";
  std::string model;
  int pairs = 3;
  fs::path directory = fs::temp_directory_path() / "pq-quantize-bench";
  CLI::App app("What quantizing takes at a model's shape");
  app.add_option("--calibration", calibration, "Text")->required();
  app.add_option("--model", model, "Measure this checkpoint instead of a random one");
  app.add_option("--recipe", recipe_name);
  app.add_option("--blocks", shape.blocks);
  app.add_option("--hidden", shape.hidden);
  app.add_option("--ffn", shape.ffn);
  app.add_option("--heads", shape.heads);
  app.add_option("--kv-heads", shape.kv_heads);
  app.add_option("--pairs", pairs, "How often the search for the prefix and a plain forward pass are timed")
      ->check(CLI::PositiveNumber);
  app.add_option("--dir", directory, "Where the random checkpoint and the result go");
  CLI11_PARSE(app, argc, argv);
  at::set_num_threads(thread_count());

  const at::NoGradGuard no_grad;
  const auto options = at::TensorOptions().dtype(at::kFloat);
  if (model.empty()) {
    model = (directory / "model").string();
    write_checkpoint(model, shape);
  }
  const auto checkpoint = io::HfCheckpoint::open(model);
  const Tokenizer tokenizer = Tokenizer::load(model);
  const Recipe recipe = named_recipe(recipe_name);
  const PrivateMemoryPeak memory;
  const auto data = quant::calibration_from_file(calibration, tokenizer, checkpoint.spec(), recipe);

  std::vector<double> ratios;
  quant::OutlierReport report;
  for (int i = 0; i < pairs; ++i) {  // pairs, so that a drifting machine slows both
    const double plain = seconds_of([&] { plain_forward(checkpoint, data.detection, options); });
    report = quant::find_outliers(checkpoint, data.detection, recipe.prefix, options);
    ratios.push_back(report.seconds / plain);
    fmt::print("find prefix {:.2f} s, plain forward pass {:.2f} s, ratio {:.3f}\n", report.seconds, plain,
               ratios.back());
  }
  std::sort(ratios.begin(), ratios.end());
  fmt::print("find prefix: median ratio to one forward pass {:.3f}\n", ratios[ratios.size() / 2]);

  const auto prefix = quant::choose_prefix(recipe.prefix, &report, tokenizer, checkpoint.spec(), recipe.seed);
  io::QuantizedCheckpointWriter writer(
      checkpoint, directory / "out",
      io::checkpoint_header(checkpoint.spec(), recipe, prefix, quant::prefix_text(prefix, tokenizer)), true);
  quant::CheckpointSink sink(writer);
  const auto summary = quant::quantize_model(checkpoint, recipe, prefix, data, options, sink);
  writer.commit();
  for (std::size_t i = 0; i < summary.block_seconds.size(); ++i)
    fmt::print("block {}: {:.1f} s\n", i, summary.block_seconds[i]);
  fmt::print("quantize: {:.1f} s; peak private memory {}\n", summary.seconds,
             format_bytes(static_cast<double>(memory.bytes())));
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (pq::prepare_tensor_environment()) pq::replace_process(pq::own_executable(), argv);
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    fmt::print(stderr, "error: {}\n", error.what());
    return 2;
  }
}
