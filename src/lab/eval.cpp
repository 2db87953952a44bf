#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "base/error.h"
#include "base/memory_usage.h"
#include "eval/report.h"
#include "io/model_source.h"
#include "lab/options.h"
#include "lab/verbs.h"
#include "nn/transformer.h"
#include "pipeline/prefix.h"
#include "pipeline/preparation.h"
#include "program/output.h"
#include "quant/quantized_model.h"
#include "tasks/evaluation.h"

namespace pq::lab {
namespace {

struct Options {
  std::string model;
  std::string against;
  std::string prefix;
  std::string calibration = "self";
  std::uint64_t seed = 0;
  bool reference = false;
  eval::EvaluationText text;
  tasks::TaskOptions tasks;
};

class Evaluation {
 public:
  Evaluation(Options options, const CommonOptions& common)
      : options_(std::move(options)), common_(common), tensor_options_(tensor_options(common)) {}

  int run() {
    const at::NoGradGuard no_grad;
    if (!options_.tasks.requested()) options_.text.require();
    tasks::Evaluation tasks(options_.tasks, options_.text.path);
    const PrivateMemoryPeak memory;
    const std::filesystem::path path = io::resolve_model(options_.model);
    const bool quantized = io::is_quantized_checkpoint(path) || io::is_foreign_checkpoint(path);
    std::vector<std::int32_t> prefix;
    bool want_prefix_row = false;
    if (quantized) {
      const io::ModelSource source = io::open_model_source(options_.model);
      read_texts(tasks, Tokenizer::load(io::model_texts(path)), source.spec);
      recipe_ = source.recipe;
      prefix = source.prefix.token_ids;
      want_prefix_row = !prefix.empty();
      add_row(recipe_.name, recipe_.name, quant::load_quantized(source, tensor_options_));
      if (!options_.prefix.empty()) {
        throw InputError("--prefix", "a quantized checkpoint brings its own prefix, or none",
                         "leave --prefix out, or evaluate the unquantized model");
      }
    } else {
      quant::Preparation preparation(options_.model, options_.calibration, tensor_options_);
      read_texts(tasks, preparation.tokenizer(), preparation.checkpoint().spec());
      if (options_.prefix.empty() && !options_.against.empty()) options_.prefix = "auto";
      prefix = find_prefix(preparation);
      want_prefix_row = !prefix.empty();
      add_row("FP16", "fp16", nn::Transformer::load(preparation.checkpoint(), tensor_options_));
      if (options_.against.empty() && want_prefix_row) add_prefix_row(*models_.front(), prefix);
    }
    if (!options_.against.empty()) {
      const auto against = io::HfCheckpoint::open(options_.against);
      add_row("FP16", "fp16", nn::Transformer::load(against, tensor_options_));
      reference_ = models_.back().get();
      if (want_prefix_row) add_prefix_row(*reference_, prefix);
    }
    if (!stream_.empty()) evaluate(stream_);
    for (std::size_t i = 0; i < models_.size(); ++i) {
      const bool own = i == 0 && quantized;
      const bool has_prefix = own || report_.rows[i].name == "FP16 + prefix";
      tasks.evaluate(*models_[i], own ? recipe_ : Recipe{}, report_.rows[i].name, report_.rows[i].recipe,
                     has_prefix ? prefix : std::vector<std::int32_t>{});
    }
    report(tasks, prefix, memory.bytes());
    return 0;
  }

 private:
  void read_texts(tasks::Evaluation& tasks, const Tokenizer& tokenizer, const ModelSpec& spec) {
    if (!options_.text.path.empty()) stream_ = options_.text.load(tokenizer, spec);
    tasks.tokenize(tokenizer, spec);
  }

  void report(const tasks::Evaluation& tasks, const std::vector<std::int32_t>& prefix, std::uint64_t private_bytes) {
    report_.model = options_.model;
    report_.compared = reference_ != nullptr && !stream_.empty();
    report_.text = options_.text;
    report_.text_tokens = stream_.size();
    report_.prefix_token_ids = prefix;
    report_.engine = {{"peak_private_memory_bytes", private_bytes}};
    Json json = stream_.empty() ? names_json(prefix) : report_.json();
    std::string text = stream_.empty() ? "" : report_.table();
    tasks.report(options_.model, Json{{"kernels", "LibTorch, float32"}}, json, text);
    common_.json ? print_json(json) : print_result(text);
  }

  /// The rows without perplexities.
  Json names_json(const std::vector<std::int32_t>& prefix) const {
    Json json{{"model", options_.model}};
    const auto names = [](const eval::Report::Row& row) { return Json{{"name", row.name}, {"recipe", row.recipe}}; };
    json.update(names(report_.rows[0]));
    json["prefix_token_ids"] = prefix;
    json["rows"] = Json::array();
    for (std::size_t i = 1; i < report_.rows.size(); ++i) json["rows"].push_back(names(report_.rows[i]));
    return json;
  }

  std::vector<std::int32_t> find_prefix(quant::Preparation& preparation) const {
    if (options_.prefix.empty()) return {};
    Recipe recipe;
    recipe.seed = options_.seed;
    recipe.prefix.tokens = options_.prefix;
    return preparation.prefix(recipe);
  }

  void add_prefix_row(nn::Transformer& model, const std::vector<std::int32_t>& prefix) {
    auto prefixed = model.share();
    prefixed->set_prefix(model.prefix_key_values(prefix));
    add_row("FP16 + prefix", "fp16", std::move(prefixed));
  }

  void add_row(std::string name, std::string recipe, std::unique_ptr<nn::Transformer> model) {
    report_.rows.push_back({std::move(name), std::move(recipe), {}});
    models_.push_back(std::move(model));
  }

  void evaluate(const std::vector<std::int32_t>& stream) {
    std::vector<LanguageModel*> models;
    for (const auto& model : models_) models.push_back(model.get());
    for (const eval::PerplexityOptions& pass : options_.text.passes()) {
      if (reference_ != nullptr) {
        const auto results = eval::compare_models(*reference_, models, stream, pass);
        for (std::size_t i = 0; i < results.size(); ++i) report_.rows[i].results.push_back(results[i]);
        continue;
      }
      for (std::size_t i = 0; i < models.size(); ++i)
        report_.rows[i].results.push_back({eval::perplexity(*models[i], stream, pass)});
    }
  }

  Options options_;
  const CommonOptions& common_;
  at::TensorOptions tensor_options_;
  eval::Report report_;
  Recipe recipe_;                                         // of a quantized model
  std::vector<std::int32_t> stream_;                      // of the text
  std::vector<std::unique_ptr<nn::Transformer>> models_;  // one a row
  nn::Transformer* reference_ = nullptr;
};

}  // namespace

Verb eval_verb() {
  return {"eval", [](CLI::App& app, const CommonOptions& common) -> Action {
            auto options = std::make_shared<Options>();
            app.add_option("MODEL", options->model,
                           "A quantized checkpoint or an unquantized model: a directory, a GGUF file, or org/name in "
                           "the Hugging Face cache")
                ->required();
            options->text.add_options(app);
            options->tasks.add_options(app);
            app.add_option("--against", options->against,
                           "Unquantized model to compare with: adds KL divergence, top-1 agreement and the rows FP16 "
                           "and FP16 + prefix")
                ->option_text("MODEL");
            app.add_option("--prefix", options->prefix,
                           "For an unquantized MODEL: add the row FP16 + prefix with this prefix (auto, ids:1,2, text)")
                ->option_text("TOKENS");
            add_calibration_option(app, options->calibration);
            app.add_option("--seed", options->seed, "Seed of the calibration sequences that --prefix auto reads")
                ->option_text("N (default 0)");
            app.add_flag("--reference", options->reference,
                         "Evaluate with the float32 reference, which is what this build does anyway");
            add_help_text(app,
                          "Perplexity: the text is tokenized once (BOS before it where the tokenizer adds one) and cut "
                          "into chunks; the\n"
                          "tail is dropped; every chunk stands behind the model's own prefix.\n\n"
                          "  pq eval MODEL --text wiki.test.raw\n"
                          "  pq eval OUT --text wiki.test.raw --length 2048 --against MODEL");
            return [options, &common] { return Evaluation(*options, common).run(); };
          }};
}

}  // namespace pq::lab
