#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <string>

#include "base/communicator.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory_usage.h"
#include "cli/eval_generation.h"
#include "cli/verbs.h"
#include "eval/evaluation_text.h"
#include "eval/report.h"
#include "io/hf_checkpoint.h"
#include "program/output.h"
#include "program/run_in_lab.h"
#include "runtime/model_parts.h"
#include "runtime/runtime_model.h"
#include "tasks/evaluation.h"

namespace pq::cli {
namespace {

struct Options {
  std::string model;
  eval::EvaluationText text;
  tasks::TaskOptions tasks;
  runtime::ModelOptions runtime;
  std::string attention = "float32";
  GenerationEvaluation generation;
  // What needs full-precision models: pq-lab's.
  bool reference = false;
  std::string against;
  std::string prefix;
  std::string calibration;
  std::string seed;
  std::string device;

  bool needs_lab() const {
    if (generation.prompts > 0) return false;
    return reference || !against.empty() || !prefix.empty() || !calibration.empty() || !seed.empty() || !device.empty();
  }
};

/// --generate, which runs the unquantized model on the runtime too.
int evaluate_generated(const Options& options, const CommonOptions& common) {
  const bool others = options.reference || !options.prefix.empty() || !options.calibration.empty() ||
                      !options.seed.empty() || !options.device.empty();
  if (others) {
    throw InputError("--generate",
                     "runs on the runtime, which has no --reference, --prefix, --calibration, --seed or --device",
                     "leave those out; --against MODEL is taken");
  }
  if (!options.text.lengths.empty() || options.text.stride > 0 || options.text.max_chunks > 0 ||
      options.text.llama_cpp_chunks || options.text.wikitext_join) {
    log_warning("--generate measures generated text, not perplexity: --length and the like mean nothing with it");
  }
  return evaluate_generation(options.generation, options.model, options.against, options.text.path, options.runtime,
                             common);
}

int evaluate(Options options, const CommonOptions& common) {
  Communicator::world();  // before threads are counted
  options.runtime.float_attention = options.attention == "float32";
  if (options.generation.prompts > 0) {
    options.text.require();
    if (options.tasks.requested()) throw InputError("--generate", "and --tasks are two runs", "ask for one of them");
    return evaluate_generated(options, common);
  }
  if (!options.tasks.requested()) options.text.require();
  tasks::Evaluation tasks(options.tasks, options.text.path);
  const PrivateMemoryPeak memory;
  const auto model = runtime::Model::load(options.model, options.runtime);
  const auto tokenizer = Tokenizer::load(io::model_texts(model->path()));
  runtime::RuntimeModel language_model(model);
  const bool quantized = quantizes(model->recipe());
  const std::string name = quantized ? model->recipe().name : "FP16";
  const std::string recipe = quantized ? name : "fp16";
  const Json engine{{"lm_head_bits", options.runtime.lm_head_bits},
                    {"attention", options.attention},
                    {"kernels", model->kernels().name}};
  Json json{{"model", options.model}, {"name", name}, {"recipe", recipe}};
  std::string text;
  if (!options.text.path.empty()) {
    const auto stream = options.text.load(tokenizer, model->spec());
    eval::Report report;
    report.model = options.model;
    report.rows.push_back({name, recipe, {}});
    for (const eval::PerplexityOptions& pass : options.text.passes())
      report.rows[0].results.push_back({eval::perplexity(language_model, stream, pass)});
    report.text = options.text;
    report.text_tokens = stream.size();
    report.prefix_token_ids = model->parts().prefix_ids;
    report.engine = engine;
    report.engine["peak_private_memory_bytes"] = memory.bytes();
    report.remark = fmt::format("; kernels {}", model->kernels().name);
    json = report.json();
    text = report.table();
  } else {
    json["prefix_token_ids"] = model->parts().prefix_ids;
    json.update(engine);
  }
  if (tasks.requested()) {
    tasks.tokenize(tokenizer, model->spec());
    tasks.evaluate(language_model, model->recipe(), name, recipe, model->parts().prefix_ids);
    tasks.report(options.model, engine, json, text);
  }
  common.json ? print_json(json) : print_result(text);
  return 0;
}

}  // namespace

Verb eval_verb(int argc, char** argv) {
  return {"eval", [argc, argv](CLI::App& app, const CommonOptions& common) -> Action {
            auto options = std::make_shared<Options>();
            app.add_option("MODEL", options->model,
                           "A quantized checkpoint or an unquantized model: a directory, a GGUF file, or org/name in "
                           "the Hugging Face cache")
                ->required();
            options->text.add_options(app);
            options->tasks.add_options(app);
            app.add_option("--lm-head-bits", options->runtime.lm_head_bits,
                           "8: quantize lm_head and embedding to int8 per channel while loading")
                ->check(CLI::IsMember({8, 16}))
                ->option_text("8|16 (default 16)");
            app.add_option("--attention", options->attention,
                           "float32: over the values that the KV codes stand for; packed: as pq run computes it, Q and "
                           "probabilities as 16-bit integers over the packed cache")
                ->option_text("float32|packed (default float32)")
                ->check(CLI::IsMember({"float32", "packed"}));
            options->generation.add_options(app);
            const std::string lab = "With pq-lab";
            app.add_flag("--reference", options->reference,
                         "Evaluate with the float32 reference of pq-lab instead of the runtime")
                ->group(lab);
            app.add_option("--against", options->against,
                           "Unquantized model to compare with: adds KL divergence, top-1 agreement and the rows FP16 "
                           "and FP16 + prefix")
                ->option_text("MODEL")
                ->group(lab);
            app.add_option("--prefix", options->prefix,
                           "For an unquantized MODEL: add the row FP16 + prefix with this prefix (auto, ids:1,2, text)")
                ->option_text("TOKENS")
                ->group(lab);
            app.add_option("--calibration", options->calibration, "Text that --prefix auto reads; `self` samples it")
                ->option_text("FILE (default self)")
                ->group(lab);
            app.add_option("--seed", options->seed, "Seed of the calibration sequences that --prefix auto reads")
                ->option_text("N (default 0)")
                ->group(lab);
            app.add_option("--device", options->device, "Device of the reference: cpu, cuda or cuda:N")
                ->option_text("NAME (default cpu)")
                ->group(lab);
            add_help_text(app,
                          "Perplexity, on the runtime: the text is tokenized once (BOS before it where the tokenizer "
                          "adds one) and cut into\n"
                          "chunks; the tail is dropped; every chunk stands behind the model's own prefix.\n\n"
                          "  pq eval OUT --text wiki.test.raw\n"
                          "  pq eval OUT --text wiki.test.raw --length 512,2048,8192\n"
                          "  pq eval OUT --text wiki.test.raw --length 2048 --against MODEL\n"
                          "  pq eval OUT --text wiki.test.raw --generate 64 --against MODEL\n"
                          "  pq eval OUT --tasks paper,mmlu --tasks-dir tasks --output results");
            return [options, &common, argc, argv] {
              return options->needs_lab() ? run_in_lab(argc, argv) : evaluate(*options, common);
            };
          }};
}

}  // namespace pq::cli
