#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "base/progress.h"
#include "cli/export_targets.h"
#include "eval/evaluation_text.h"
#include "eval/prefixed_model.h"
#include "exchange/ct_export.h"
#include "io/foreign_layout.h"
#include "runtime/model.h"
#include "runtime/runtime_model.h"

namespace pq::cli {
namespace {

constexpr std::string_view name = "compressed-tensors";

struct Options {
  bool no_prefix = false;
  std::string measure;
};

/// The export as a program computes it that has the prefix as tokens, beside the checkpoint with its 16-bit prefix.
void measure(ExportOutcome& outcome, const io::QuantizedCheckpoint& checkpoint, const ExportRequest& request,
             const exchange::CtExport& made, const std::string& path) {
  eval::EvaluationText text;
  text.path = path;
  const auto stream = text.load(Tokenizer::load(checkpoint.directory()), checkpoint.spec());
  runtime::RuntimeModel ours(runtime::Model::load(request.model, {}));
  runtime::RuntimeModel exported(runtime::Model::load(request.out.string(), {}));
  eval::PrefixedModel theirs(exported, made.prefix_token_ids);
  const std::array<LanguageModel*, 2> models{&ours, &theirs};
  const auto results = eval::compare_models(ours, models, stream, text.passes().front());
  outcome.json["measured"] = {{"text", path},
                              {"tokens", results[0].tokens},
                              {"perplexity", results[0].perplexity},
                              {"exported_perplexity", results[1].perplexity},
                              {"kl_divergence", results[1].kl_divergence}};
  outcome.text += fmt::format(
      "measured on {}: perplexity {:.4f} as exported, {:.4f} with the prefix in 16 bits; KL divergence {:.3g}\n", path,
      results[1].perplexity, results[0].perplexity, results[1].kl_divergence);
}

std::string prefix_text(const io::QuantizedCheckpoint& checkpoint, const exchange::CtExport& made) {
  if (made.prefix_token_ids.empty()) return checkpoint.prefix().empty() ? "" : "prefix: left out\n";
  return fmt::format(
      "prefix: the tokenizer puts tokens {} in front of every text{}; their K and V come from the quantized weights\n",
      fmt::join(made.prefix_token_ids, ", "), made.chat_prefix ? ", the chat template too" : ", not of chats");
}

ExportOutcome run(const io::QuantizedCheckpoint& checkpoint, const ExportRequest& request, const Options& options) {
  const exchange::CtExport made = exchange::export_compressed_tensors(
      checkpoint, request.out,
      {.replace = request.force, .round_scales = request.round_scales, .prefix = !options.no_prefix});
  const std::string_view format = io::foreign_layout_row(made.plan.layout).name;
  ExportOutcome outcome;
  outcome.json = {{"scheme", made.plan.scheme},
                  {"format", format},
                  {"dtype", exchange::torch_dtype(made.plan.real)},
                  {"bytes", made.bytes},
                  {"files", made.files},
                  {"prefix_token_ids", made.prefix_token_ids},
                  {"prefix_in_chats", made.chat_prefix},
                  {"left_out", made.plan.left_out},
                  {"largest_relative_difference", made.largest_scale_change}};
  outcome.text = fmt::format(
      "{}: {}, {}, {}, {}; {}\n", request.out.string(), made.plan.scheme, format, exchange::torch_dtype(made.plan.real),
      format_bytes(static_cast<double>(made.bytes)),
      made.largest_scale_change == 0
          ? std::string("read back: every weight equal")
          : fmt::format("read back: scales moved by at most {:.3g} of themselves", made.largest_scale_change));
  for (const std::string& note : made.plan.left_out) outcome.text += fmt::format("left out: {}\n", note);
  outcome.text += prefix_text(checkpoint, made);
  if (!options.measure.empty()) {
    measure(outcome, checkpoint, request, made, options.measure);
  } else if (!checkpoint.prefix().empty()) {
    outcome.text += "what the prefix loses by this was not measured: --measure TEXT does\n";
  }
  outcome.text += fmt::format("run it: vllm serve {}\n", request.out.string());
  return outcome;
}

}  // namespace

ExportTarget compressed_tensors_target() {
  return {name, "a directory for vLLM and transformers, with the prefix as tokens of its tokenizer",
          [](CLI::App& app) -> Export {
            auto options = std::make_shared<Options>();
            const std::string group = flag_group(name);
            app.add_flag("--no-prefix", options->no_prefix, "Leave the prefix out")->group(group);
            app.add_option("--measure", options->measure,
                           "Compare the export with OUT on this text: perplexity of both, KL divergence")
                ->option_text("TEXT")
                ->group(group);
            return [options](const io::QuantizedCheckpoint& checkpoint, const ExportRequest& request) {
              return run(checkpoint, request, *options);
            };
          }};
}

}  // namespace pq::cli
