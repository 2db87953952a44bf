#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "base/error.h"
#include "base/table.h"
#include "io/quantized_checkpoint.h"
#include "lab/session.h"
#include "lab/verbs.h"
#include "pipeline/prefix.h"
#include "quant/quantized_model.h"

namespace pq::lab {
namespace {

struct Options {
  std::string model;
  std::string against;
  std::string prefix;
  std::string calibration = "self";
  std::uint64_t seed = 0;
  bool reference = false;
  EvaluationText text;
};

struct Row {
  std::string name;
  std::string recipe;
  std::unique_ptr<nn::Transformer> model;
};

class Evaluation {
 public:
  Evaluation(Options options, const CommonOptions& common)
      : options_(std::move(options)), common_(common), tensor_options_(tensor_options(common)) {}

  int run() {
    const at::NoGradGuard no_grad;
    const auto directory = io::resolve_model_directory(options_.model);
    const bool quantized = io::is_quantized_checkpoint(directory);
    std::vector<std::int32_t> prefix;
    bool want_prefix_row = false;
    std::vector<std::int32_t> stream;
    if (quantized) {
      const auto checkpoint = io::QuantizedCheckpoint::open(options_.model);
      stream = options_.text.load(Tokenizer::load(checkpoint.directory()), checkpoint.spec());
      prefix = checkpoint.prefix().token_ids;
      want_prefix_row = !prefix.empty();
      rows_.push_back(
          {checkpoint.recipe().name, checkpoint.recipe().name, quant::load_quantized(checkpoint, tensor_options_)});
      if (!options_.prefix.empty()) {
        throw InputError("--prefix", "a quantized checkpoint brings its own prefix",
                         "leave --prefix out, or evaluate the unquantized model");
      }
    } else {
      Session session(options_.model, options_.calibration, tensor_options_);
      stream = options_.text.load(session.tokenizer(), session.checkpoint().spec());
      if (options_.prefix.empty() && !options_.against.empty()) options_.prefix = "auto";
      prefix = find_prefix(session);
      want_prefix_row = !prefix.empty();
      rows_.push_back({"FP16", "fp16", nn::Transformer::load(session.checkpoint(), tensor_options_)});
      if (options_.against.empty() && want_prefix_row) add_prefix_row(*rows_.front().model, prefix);
    }
    if (!options_.against.empty()) {
      const auto against = io::HfCheckpoint::open(options_.against);
      rows_.push_back({"FP16", "fp16", nn::Transformer::load(against, tensor_options_)});
      reference_ = rows_.back().model.get();
      if (want_prefix_row) add_prefix_row(*reference_, prefix);
    }
    evaluate(stream);
    report(stream.size(), prefix);
    return 0;
  }

 private:
  std::vector<std::int32_t> find_prefix(Session& session) const {
    if (options_.prefix.empty()) return {};
    Recipe recipe;
    recipe.seed = options_.seed;
    recipe.prefix.tokens = options_.prefix;
    return session.prefix(recipe);
  }

  void add_prefix_row(nn::Transformer& model, const std::vector<std::int32_t>& prefix) {
    auto prefixed = model.share();
    prefixed->set_prefix(model.prefix_key_values(prefix));
    rows_.push_back({"FP16 + prefix", "fp16", std::move(prefixed)});
  }

  void evaluate(const std::vector<std::int32_t>& stream) {
    std::vector<LanguageModel*> models;
    for (const Row& row : rows_) models.push_back(row.model.get());
    if (reference_ != nullptr) {
      results_ = eval::compare_models(*reference_, models, stream, options_.text.options());
      return;
    }
    for (LanguageModel* model : models) {
      eval::ComparisonResult result;
      static_cast<eval::PerplexityResult&>(result) = eval::perplexity(*model, stream, options_.text.options());
      results_.push_back(result);
    }
  }

  void report(std::size_t tokens, const std::vector<std::int32_t>& prefix) const {
    const bool compared = reference_ != nullptr;
    if (common_.json) {
      Json json{{"model", options_.model}, {"name", rows_[0].name}, {"recipe", rows_[0].recipe}};
      json.update(result_json(results_[0], compared));
      json["text"] = options_.text.path;
      json["text_tokens"] = tokens;
      json["length"] = options_.text.length;
      json["chunks"] = results_[0].chunks;
      json["prefix_token_ids"] = prefix;
      json["rows"] = Json::array();
      for (std::size_t i = 1; i < rows_.size(); ++i) {
        Json row{{"name", rows_[i].name}, {"recipe", rows_[i].recipe}};
        row.update(result_json(results_[i], compared));
        json["rows"].push_back(std::move(row));
      }
      print_json(json);
      return;
    }
    std::vector<std::string> header{"model", "perplexity"};
    if (compared) header.insert(header.end(), {"KL divergence", "top-1 agreement"});
    header.push_back("seconds");
    Table table(header);
    for (std::size_t i = 0; i < rows_.size(); ++i) {
      std::vector<std::string> cells{rows_[i].name, fmt::format("{:.3f}", results_[i].perplexity)};
      if (compared) {
        cells.push_back(fmt::format("{:.5f}", results_[i].kl_divergence));
        cells.push_back(fmt::format("{:.2f}%", 100 * results_[i].top1_agreement));
      }
      cells.push_back(fmt::format("{:.1f}", results_[i].seconds));
      table.add_row(std::move(cells));
    }
    print_result(table.text());
    print_result(fmt::format("{}: {} chunks of {} tokens{}\n", options_.text.path, results_[0].chunks,
                             options_.text.length, compared ? "; distances from FP16" : ""));
  }

  Options options_;
  const CommonOptions& common_;
  at::TensorOptions tensor_options_;
  std::vector<Row> rows_;
  std::vector<eval::ComparisonResult> results_;
  nn::Transformer* reference_ = nullptr;
};

}  // namespace

Verb eval_verb() {
  return {"eval", [](CLI::App& app, const CommonOptions& common) -> Action {
            auto options = std::make_shared<Options>();
            app.add_option(
                   "MODEL", options->model,
                   "A quantized checkpoint or an unquantized model: a directory, or org/name in the Hugging Face cache")
                ->required();
            options->text.add_options(app);
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
