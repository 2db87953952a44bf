#include "cli/eval_generation.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "base/memory_usage.h"
#include "base/stopwatch.h"
#include "base/table.h"
#include "cli/greedy_generation.h"
#include "eval/continuations.h"
#include "io/hf_checkpoint.h"
#include "program/output.h"
#include "runtime/model_parts.h"
#include "text/documents.h"

namespace pq::cli {
namespace {

using Tokens = std::vector<std::int32_t>;

constexpr std::size_t outliers_listed = 8;

struct Prompts {
  std::vector<Tokens> tokens;
  std::vector<eval::Continuation> text_goes_on;  ///< what stands behind each in the text
};

Prompts cut_prompts(const GenerationEvaluation& options, const Tokenizer& tokenizer, const std::string& path) {
  const std::string text = read_text_file(path);
  require_utf8(text, path);
  const Tokens stream = tokenizer.encode(text, false);
  const auto size = static_cast<std::int64_t>(stream.size());
  const std::int64_t piece = size / options.prompts;
  if (piece < options.prompt_tokens) {
    throw InputError(
        path, fmt::format("has {} tokens, less than {} prompts of {}", size, options.prompts, options.prompt_tokens),
        "give a longer text, fewer prompts (--generate) or shorter ones (--prompt-tokens)");
  }
  Prompts prompts;
  for (std::int64_t i = 0; i < options.prompts; ++i) {
    Tokens prompt;
    if (tokenizer.adds_bos()) prompt.push_back(tokenizer.bos_id().value());
    const auto start = stream.begin() + i * piece;
    const auto end = start + options.prompt_tokens;
    prompt.insert(prompt.end(), start, end);
    prompts.tokens.push_back(std::move(prompt));
    const std::int64_t rest = std::min(options.max_tokens, stream.end() - end);
    prompts.text_goes_on.push_back({Tokens(end, end + rest), false});
  }
  return prompts;
}

/// A line of the table.
struct Row {
  std::string name;
  std::string recipe;  ///< empty for the text itself
  eval::ContinuationStatistics statistics;
  std::optional<eval::ContinuationAgreement> agreement;
  std::optional<GeneratedOutliers> outliers;
  double seconds = 0;  ///< to generate
};

Json to_json(const GeneratedOutliers& outliers, const Tokenizer& tokenizer) {
  Json json{{"outlier_tokens", outliers.tokens},
            {"generated_tokens", outliers.generated},
            {"outlier_max_ratio", outliers.max_ratio}};
  std::vector<std::pair<std::int32_t, std::int64_t>> ids(outliers.by_id.begin(), outliers.by_id.end());
  std::stable_sort(ids.begin(), ids.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
  json["outlier_ids"] = Json::array();
  for (const auto& [id, count] : ids)
    json["outlier_ids"].push_back({{"id", id}, {"text", tokenizer.token_text(id)}, {"count", count}});
  return json;
}

class Evaluation {
 public:
  Evaluation(const GenerationEvaluation& options, std::string model, std::string text,
             const runtime::ModelOptions& runtime)
      : options_(options),
        name_(std::move(model)),
        text_(std::move(text)),
        runtime_(runtime),
        tokenizer_(Tokenizer::load(io::model_texts(io::resolve_model(name_)))),
        prompts_(cut_prompts(options, tokenizer_, text_)) {}

  void run(const std::string& against) {
    std::vector<eval::Continuation> of_model;
    {
      const GreedyGenerator generator = load(name_);
      const runtime::Model& model = generator.model();
      settings_ = model.recipe().prefix;
      prefix_ids_ = model.parts().prefix_ids;
      kernels_ = model.kernels().name;
      of_model = add_row(generator);
    }
    if (!against.empty()) {
      const GreedyGenerator generator = load(against);
      if (generator.model().spec().vocab_size != vocab_size_) {
        throw InputError("--against",
                         fmt::format("its vocabulary has {} tokens, the model's {}",
                                     generator.model().spec().vocab_size, vocab_size_),
                         "compare models that share a tokenizer");
      }
      const std::vector<eval::Continuation> reference = add_row(generator);
      rows_[0].agreement = eval::continuation_agreement(of_model, reference);
      rows_[1].agreement = eval::continuation_agreement(reference, reference);
    }
    rows_.push_back({"the text", "", eval::continuation_statistics(prompts_.text_goes_on), {}, {}, 0});
  }

  Json json() const {
    Json json{{"model", name_}};
    json.update(row_json(rows_.front()));
    json["text"] = text_;
    json["prompts"] = options_.prompts;
    json["prompt_tokens"] = options_.prompt_tokens;
    json["max_tokens"] = options_.max_tokens;
    json["prefix_token_ids"] = prefix_ids_;
    json["lm_head_bits"] = runtime_.lm_head_bits;
    json["attention"] = runtime_.float_attention ? "float32" : "packed";
    json["kernels"] = kernels_;
    json["rows"] = Json::array();
    for (std::size_t i = 1; i < rows_.size(); ++i) json["rows"].push_back(row_json(rows_[i]));
    return json;
  }

  std::string table() const {
    const bool compared = rows_.front().agreement.has_value();
    std::vector<std::string> header{"model", "rep-4", "distinct-1", "distinct-2", "distinct-3", "tokens", "ended"};
    if (compared) header.insert(header.end(), {"same until", "same tokens"});
    header.insert(header.end(), {"outlier tokens", "largest ratio", "seconds"});
    Table lines(header);
    const auto share = [](double value) { return fmt::format("{:.1f}%", 100 * value); };
    for (const Row& row : rows_) {
      const eval::ContinuationStatistics& s = row.statistics;
      std::vector<std::string> cells{row.name, share(s.repetition[2])};
      for (const double distinct : s.distinct) cells.push_back(share(distinct));
      cells.push_back(fmt::format("{:.1f}", s.mean_length));
      cells.push_back(row.recipe.empty() ? "-" : share(s.ended_share));
      if (compared) {
        cells.push_back(row.agreement ? share(row.agreement->until_divergence) : "-");
        cells.push_back(row.agreement ? share(row.agreement->same_positions) : "-");
      }
      cells.push_back(row.outliers ? std::to_string(row.outliers->tokens) : "-");
      cells.push_back(row.outliers ? fmt::format("{:.1f}", row.outliers->max_ratio) : "-");
      cells.push_back(row.outliers ? fmt::format("{:.1f}", row.seconds) : "-");
      lines.add_row(std::move(cells));
    }
    std::string text = lines.text();
    for (const Row& row : rows_) {
      if (row.outliers && row.outliers->tokens > 0) text += outlier_line(row);
    }
    return text + fmt::format("{}: {} prompts of {} tokens, greedy, at most {} tokens{}; kernels {}\n", text_,
                              options_.prompts, options_.prompt_tokens, options_.max_tokens,
                              compared ? "; same: shares of the tokens of FP16" : "", kernels_);
  }

 private:
  GreedyGenerator load(const std::string& path) {
    auto model = runtime::Model::load(path, runtime_);
    vocab_size_ = vocab_size_ == 0 ? model->spec().vocab_size : vocab_size_;
    const std::int64_t needed = static_cast<std::int64_t>(prompts_.tokens.front().size()) + options_.max_tokens;
    if (needed > model->spec().max_positions) {
      log_warning("prompts and continuations of {} tokens are longer than the model's context of {}", needed,
                  model->spec().max_positions);
    }
    return {std::move(model), options_.max_tokens, tokenizer_};
  }

  std::vector<eval::Continuation> add_row(const GreedyGenerator& generator) {
    const Recipe& recipe = generator.model().recipe();
    const bool quantized = quantizes(recipe);
    Row row{quantized ? recipe.name : "FP16", quantized ? recipe.name : "fp16", {}, {}, {}, 0};
    const Stopwatch watch;
    std::vector<eval::Continuation> continuations = generator.continue_all(prompts_.tokens);
    row.seconds = watch.seconds();
    row.statistics = eval::continuation_statistics(continuations);
    row.outliers = generator.find_outliers(prompts_.tokens, continuations, settings_);
    rows_.push_back(std::move(row));
    return continuations;
  }

  Json row_json(const Row& row) const {
    Json json{{"name", row.name}};
    if (!row.recipe.empty()) json["recipe"] = row.recipe;
    json.update(eval::to_json(row.statistics));
    if (row.agreement) json.update(eval::to_json(*row.agreement));
    if (row.outliers) {
      json.update(to_json(*row.outliers, tokenizer_));
      json["seconds"] = row.seconds;
      json["peak_memory_bytes"] = peak_resident_bytes();
    }
    return json;
  }

  std::string outlier_line(const Row& row) const {
    std::string line = fmt::format("outlier tokens of {}:", row.name);
    std::size_t listed = 0;
    const Json outliers = to_json(*row.outliers, tokenizer_);
    for (const Json& one : outliers["outlier_ids"]) {
      if (listed++ == outliers_listed) break;
      line += fmt::format(" {} ({})", one["text"].dump(-1, ' ', false, Json::error_handler_t::replace),
                          one["count"].get<std::int64_t>());
    }
    return line + "\n";
  }

  GenerationEvaluation options_;
  std::string name_;
  std::string text_;
  runtime::ModelOptions runtime_;
  Tokenizer tokenizer_;
  Prompts prompts_;
  PrefixSettings settings_;
  std::vector<std::int32_t> prefix_ids_;
  std::string kernels_;
  std::int64_t vocab_size_ = 0;
  std::vector<Row> rows_;
};

}  // namespace

void GenerationEvaluation::add_options(CLI::App& app) {
  const std::string group = "Generated text, instead of perplexity";
  app.add_option("--generate", prompts,
                 "Continue N prompts out of the text greedily: repetition, distinct n-grams, length, outlier tokens "
                 "behind the prefix; with --against how far the unquantized model writes the same")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->option_text("N")
      ->group(group);
  app.add_option("--prompt-tokens", prompt_tokens,
                 "Tokens of a prompt: the text is cut into N pieces, of which these are the first")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->option_text("N (default 32)")
      ->group(group);
  app.add_option("-n,--max-tokens", max_tokens, "Tokens to generate at most behind each prompt")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 20))
      ->option_text("N (default 128)")
      ->group(group);
}

int evaluate_generation(const GenerationEvaluation& options, const std::string& model, const std::string& against,
                        const std::string& text, const runtime::ModelOptions& runtime, const CommonOptions& common) {
  Evaluation evaluation(options, model, text, runtime);
  evaluation.run(against);
  common.json ? print_json(evaluation.json()) : print_result(evaluation.table());
  return 0;
}

}  // namespace pq::cli
