#include "pipeline/preparation.h"

#include <fmt/format.h>

#include <filesystem>
#include <utility>

#include "base/file_kind.h"
#include "base/log.h"
#include "base/phase_timer.h"
#include "model/site_transform.h"
#include "pipeline/kv_symmetry.h"
#include "pipeline/prefix.h"
#include "pipeline/self_calibration.h"

namespace pq::quant {
namespace {

/// The last name of a path, also of one that ends with a slash.
std::string file_name(const std::filesystem::path& path) {
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

}  // namespace

Preparation::Preparation(const std::string& model, std::string calibration, const at::TensorOptions& options,
                         std::int64_t context)
    : checkpoint_(io::HfCheckpoint::open(model, context)),
      tokenizer_(Tokenizer::load(checkpoint_.texts())),
      options_(options),
      calibration_path_(std::move(calibration)),
      calibration_name_(calibration_path_ == "self" ? calibration_path_ : file_name(calibration_path_)) {
  if (calibration_path_ != "self" && !std::filesystem::exists(calibration_path_)) {
    refuse_missing(calibration_path_);
  }
}

const CalibrationData& Preparation::calibration(const Recipe& recipe) {
  const FinetuneSettings& tuning = recipe.finetune;
  const std::string key =
      fmt::format("{} {} {} {} {} {} {} {} {} {} {}", recipe.seed, recipe.calibration.samples,
                  recipe.calibration.length, recipe.search.samples, recipe.search.length, recipe.search.gptq_samples,
                  recipe.search.gptq_length, tuning.enabled(), tuning.samples, tuning.length, tuning.validation);
  if (key != calibration_key_) {
    const PhaseTimer timer("calibration sequences");
    calibration_ = calibration_path_ == "self"
                       ? calibration_from_model(checkpoint_, tokenizer_, recipe, options_)
                       : calibration_from_file(calibration_path_, tokenizer_, checkpoint_.spec(), recipe);
    calibration_key_ = key;
  }
  return calibration_;
}

Recipe Preparation::settled(Recipe recipe) {
  validate_recipe(recipe, checkpoint_.spec());
  recipe.rotate.r1 = residual_rotation(checkpoint_.spec(), recipe.rotate.r1);
  if (!recipe.kv_symmetry_by_calibration) return recipe;
  const KvSymmetry found = measure_kv_symmetry(checkpoint_, calibration(recipe).detection, recipe, options_);
  recipe.kv_symmetry_by_calibration = false;
  recipe.kv.symmetric = found.symmetric_suffices();
  log_info("KV cache: {} (a symmetric scale has {:.2f} times the squared error, in the worst block, {})",
           recipe.kv.symmetric ? "symmetric" : "with zero points", found.worst_ratio, found.worst_block);
  return recipe;
}

const OutlierReport& Preparation::outliers(const Recipe& recipe) {
  const CalibrationData& data = calibration(recipe);
  const std::string key =
      fmt::format("{} {} {}", calibration_key_, recipe.prefix.upper_threshold, recipe.prefix.lower_threshold);
  if (key != outliers_key_) {
    outliers_ = find_outliers(checkpoint_, data.detection, recipe.prefix, options_);
    outliers_key_ = key;
  }
  return outliers_;
}

std::vector<std::int32_t> Preparation::prefix(const Recipe& recipe) {
  const OutlierReport* report = needs_outliers(recipe.prefix) ? &outliers(recipe) : nullptr;
  return choose_prefix(recipe.prefix, report, tokenizer_, checkpoint_.spec(), recipe.seed);
}

}  // namespace pq::quant
