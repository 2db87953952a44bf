#include "lab/session.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>

#include "base/error.h"
#include "pipeline/pipeline.h"
#include "pipeline/prefix.h"
#include "pipeline/self_calibration.h"

namespace pq::lab {

namespace {

/// The last name of a path, also of one that ends with a slash.
std::string file_name(const std::filesystem::path& path) {
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace

at::TensorOptions tensor_options(const CommonOptions& common) {
  try {
    return at::TensorOptions().dtype(at::kFloat).device(at::Device(common.device));
  } catch (const std::exception&) {
    throw InputError(fmt::format("--device {}", common.device), "is no device", "use cpu, cuda or cuda:N");
  }
}

void add_calibration_option(CLI::App& app, std::string& source) {
  app.add_option(
         "--calibration", source,
         "Text to calibrate on: .txt, or .jsonl with a `text` field, plain or gzip, or a directory of such files; "
         "`self` samples from the model itself")
      ->option_text(fmt::format("PATH (default {})", source));
}

Session::Session(const std::string& model, std::string calibration, const at::TensorOptions& options)
    : checkpoint_(io::HfCheckpoint::open(model)),
      tokenizer_(Tokenizer::load(checkpoint_.directory())),
      options_(options),
      calibration_path_(std::move(calibration)),
      calibration_name_(calibration_path_ == "self" ? calibration_path_ : file_name(calibration_path_)) {
  if (calibration_path_ != "self" && !std::filesystem::exists(calibration_path_)) {
    throw InputError(calibration_path_, "no such calibration text", "check the path, or use --calibration self");
  }
}

const quant::CalibrationData& Session::calibration(const Recipe& recipe) {
  const FinetuneSettings& tuning = recipe.finetune;
  const std::string key = fmt::format("{} {} {} {} {} {} {} {} {}", recipe.seed, recipe.calibration.samples,
                                      recipe.calibration.length, recipe.search.samples, recipe.search.length,
                                      tuning.enabled(), tuning.samples, tuning.length, tuning.validation);
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

}  // namespace pq::lab
