#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/files.h"
#include "base/progress.h"
#include "base/random.h"
#include "base/table.h"
#include "cli/verbs.h"
#include "model/token_range.h"
#include "program/output.h"
#include "runtime/model.h"
#include "runtime/model_source.h"
#include "text/documents.h"
#include "tokenizer/tokenizer.h"
#include "verify/verify.h"

namespace pq::cli {
namespace {

struct Options {
  std::string model;
  std::string text;
  std::int64_t tokens = 32;
  std::uint64_t seed = 0;
  runtime::ModelOptions runtime;
};

std::vector<std::int32_t> choose_tokens(const Options& options, const runtime::ModelSource& source) {
  const auto count = static_cast<std::size_t>(options.tokens);
  std::vector<std::int32_t> tokens;
  if (!options.text.empty()) {
    const std::string text = read_text_file(options.text);
    require_utf8(text, options.text);
    tokens = Tokenizer::load(io::model_texts(source.path)).encode(text, true);
    if (tokens.empty()) throw InputError(options.text, "holds no tokens", "give a text that is not empty");
    tokens.resize(std::min(tokens.size(), count));
    for (const std::int32_t token : tokens) check_token(token, source.spec, options.text);
    return tokens;
  }
  Random random(options.seed, "verify");
  while (tokens.size() < count) {
    tokens.push_back(static_cast<std::int32_t>(random.below(static_cast<std::uint64_t>(source.spec.vocab_size))));
  }
  return tokens;
}

Json to_json(const Options& options, const runtime::VerifyReport& report) {
  Json json{{"model", options.model},
            {"kernels", report.kernels},
            {"tokens", report.tokens},
            {"passed", report.passed()},
            {"rows", Json::array()}};
  for (const runtime::VerifyRow& row : report.rows) {
    json["rows"].push_back({{"tensor", row.tensor},
                            {"passed", row.passed()},
                            {"codes", row.codes},
                            {"differing_codes", row.differing},
                            {"values", row.values},
                            {"max_error", row.max_error},
                            {"share_of_bound", row.share},
                            {"worst_block", row.worst_block}});
  }
  json["float32_overflow"] = report.overflow.empty() ? Json(nullptr) : Json(report.overflow);
  json["logit_max_error"] = report.logits.max_error;
  json["logit_rms_error"] = report.logits.rms_error;
  json["logit_rms"] = report.logits.rms;
  json["kl_divergence"] = report.logits.kl_divergence;
  json["control_kl_divergence"] = report.logits.control_kl_divergence;
  json["top1_agreement"] = report.logits.top1_agreement;
  return json;
}

std::string verdict(const runtime::VerifyReport& report) {
  if (report.passed()) return "all within bounds";
  if (report.overflow.empty()) return "OUTSIDE ITS BOUNDS: do not trust this machine's results";
  return fmt::format("float32 overflows (first in {}): the model's weights or scales are too large, on any machine",
                     report.overflow);
}

void print(const Options& options, const runtime::VerifyReport& report) {
  Table table({"tensor", "codes", "differing", "values", "largest error", "share of bound", "verdict"});
  for (const runtime::VerifyRow& row : report.rows) {
    const bool floats = row.values > 0;
    const bool codes = row.codes > 0;
    table.add_row({row.tensor, codes ? fmt::format("{}", row.codes) : "-",
                   codes ? fmt::format("{}", row.differing) : "-", floats ? fmt::format("{}", row.values) : "-",
                   floats ? fmt::format("{:.2e}", row.max_error) : "-", floats ? fmt::format("{:.3f}", row.share) : "-",
                   row.passed() ? "ok" : fmt::format("outside, block {}", row.worst_block)});
  }
  print_result(table.text());
  print_result(fmt::format(
      "\nend to end, {} tokens: logits off by {:.2e} (RMS; largest {:.2e}) of {:.2e}, KL divergence {:.2e}, "
      "same first choice {:.1f}%\n"
      "(the reference against itself with its embedding moved by {:.0e}, a rounding to binary16: KL divergence "
      "{:.2e})\n{}: kernels {}: {}\n",
      report.tokens, report.logits.rms_error, report.logits.max_error, report.logits.rms, report.logits.kl_divergence,
      100 * report.logits.top1_agreement, runtime::control_movement, report.logits.control_kl_divergence, options.model,
      report.kernels, verdict(report)));
}

int verify(const Options& options, const CommonOptions& common) {
  const runtime::ModelSource source = runtime::open_model(options.model);
  const auto tokens = choose_tokens(options, source);
  const auto model = runtime::Model::load(options.model, options.runtime);
  Progress progress("verify", static_cast<std::size_t>(source.spec.block_count));
  const runtime::VerifyReport report = runtime::verify(*model, source, tokens, [&] { progress.advance(); });
  if (common.json) {
    print_json(to_json(options, report));
  } else {
    print(options, report);
  }
  return report.passed() ? 0 : 1;
}

}  // namespace

Verb verify_verb() {
  return {
      "verify", [](CLI::App& app, const CommonOptions& common) -> Action {
        auto options = std::make_shared<Options>();
        app.add_option("CHECKPOINT", options->model, "A quantized checkpoint, or an unquantized model")->required();
        app.add_option("--tokens", options->tokens, "Tokens to run; all stages of each are compared")
            ->option_text("N (default 32)")
            ->check(CLI::Range(1, 512));
        app.add_option("--text", options->text, "Take the tokens from this text, not at random")->option_text("FILE");
        app.add_option("--seed", options->seed, "Seed of the random tokens")->option_text("N (default 0)");
        app.add_option("--lm-head-bits", options->runtime.lm_head_bits,
                       "8: quantize lm_head and embedding to int8 per channel while loading")
            ->check(CLI::IsMember({8, 16}))
            ->option_text("8|16 (default 16)");
        add_help_text(app,
                      "Runs a few tokens through the runtime and through the same arithmetic in plain float64 code. "
                      "Every stage of\n"
                      "every block is compared on the same inputs: quantized codes must be equal, floats within a "
                      "computed bound. At the\n"
                      "end the whole runs are compared. Exit code 0 when all is within its bounds, 1 when something "
                      "is not.\n\n"
                      "  pq verify OUT\n"
                      "  PQ_FORCE_ISA=scalar pq verify OUT --tokens 8");
        return [options, &common] { return verify(*options, common); };
      }};
}

}  // namespace pq::cli
