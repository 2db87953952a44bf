#include "lab/session.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "base/memory_usage.h"
#include "quant/pipeline.h"
#include "quant/prefix.h"

namespace pq::lab {

at::TensorOptions tensor_options(const CommonOptions& common) {
  try {
    return at::TensorOptions().dtype(at::kFloat).device(at::Device(common.device));
  } catch (const std::exception&) {
    throw InputError(fmt::format("--device {}", common.device), "is no device", "use cpu, cuda or cuda:N");
  }
}

void add_calibration_option(CLI::App& app, std::string& source) {
  app.add_option("--calibration", source,
                 "Text to calibrate on: .txt, or .jsonl with a `text` field, plain or gzip; `self` samples from the "
                 "model itself")
      ->option_text(fmt::format("FILE (default {})", source));
}

Session::Session(const std::string& model, std::string calibration, const at::TensorOptions& options)
    : checkpoint_(io::HfCheckpoint::open(model)),
      tokenizer_(Tokenizer::load(checkpoint_.directory())),
      options_(options),
      calibration_path_(std::move(calibration)),
      calibration_name_(calibration_path_ == "self" ? calibration_path_
                                                    : std::filesystem::path(calibration_path_).filename().string()) {
  if (calibration_path_ != "self" && !std::filesystem::exists(calibration_path_)) {
    throw InputError(calibration_path_, "no such calibration text", "check the path, or use --calibration self");
  }
}

const quant::CalibrationData& Session::calibration(const Recipe& recipe) {
  const std::string key = fmt::format("{} {} {} {} {}", recipe.seed, recipe.calibration.samples,
                                      recipe.calibration.length, recipe.search.samples, recipe.search.length);
  if (key != calibration_key_) {
    calibration_ = calibration_path_ == "self"
                       ? quant::calibration_from_model(checkpoint_, tokenizer_, recipe, options_)
                       : quant::calibration_from_file(calibration_path_, tokenizer_, checkpoint_.spec(), recipe);
    calibration_key_ = key;
  }
  return calibration_;
}

const quant::OutlierReport& Session::outliers(const Recipe& recipe) {
  const quant::CalibrationData& data = calibration(recipe);
  const std::string key =
      fmt::format("{} {} {}", calibration_key_, recipe.prefix.upper_threshold, recipe.prefix.lower_threshold);
  if (key != outliers_key_) {
    outliers_ = quant::find_outliers(checkpoint_, data.detection, recipe.prefix, options_);
    outliers_key_ = key;
  }
  return outliers_;
}

std::vector<std::int32_t> Session::prefix(const Recipe& recipe) {
  const quant::OutlierReport* report = quant::needs_outliers(recipe.prefix) ? &outliers(recipe) : nullptr;
  return quant::choose_prefix(recipe.prefix, report, tokenizer_, checkpoint_.spec(), recipe.seed);
}

void EvaluationText::add_options(CLI::App& app) {
  app.add_option("--text", path, "Text to evaluate on, plain or gzip, taken verbatim")->required()->option_text("FILE");
  app.add_option("--length", length, "Tokens a chunk (default 2048, or the model's context where that is shorter)")
      ->check(CLI::Range(2, 1 << 24));
  app.add_option("--max-chunks", max_chunks, "Evaluate only the first N chunks (default: all)")
      ->check(CLI::NonNegativeNumber);
  app.add_flag("--wikitext-join", wikitext_join,
               "Join the rows of a raw WikiText file by blank lines first, as papers do");
}

std::vector<std::int32_t> EvaluationText::load(const Tokenizer& tokenizer, const ModelSpec& spec) {
  if (length == 0) length = std::min<std::int64_t>(2048, spec.max_positions);
  if (length > spec.max_positions)
    log_warning("--length {} is beyond the model's context of {} tokens", length, spec.max_positions);
  std::string text = read_text_file(path);
  if (wikitext_join) text = eval::join_wikitext(text);
  std::vector<std::int32_t> stream;
  try {
    stream = eval::tokenize_text(tokenizer, text);
  } catch (const InputError& error) {
    throw InputError(path, error.what());
  }
  if (static_cast<std::int64_t>(stream.size()) < length) {
    throw InputError(path, fmt::format("has {} tokens, less than one chunk of {}", stream.size(), length),
                     "give a longer text, or a smaller --length");
  }
  return stream;
}

eval::PerplexityOptions EvaluationText::options() const {
  eval::PerplexityOptions options;
  options.length = length;
  options.max_chunks = max_chunks;
  return options;
}

Json result_json(const eval::ComparisonResult& result, bool compared) {
  Json json{{"perplexity", result.perplexity}, {"mean_nll", result.mean_nll}};
  if (compared) {
    json["kl_divergence"] = result.kl_divergence;
    json["top1_agreement"] = result.top1_agreement;
  }
  json["seconds"] = result.seconds;
  json["peak_memory_bytes"] = peak_resident_bytes();
  return json;
}

}  // namespace pq::lab
