#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/hf_checkpoint.h"
#include "model/recipe.h"
#include "nn/transformer.h"
#include "pipeline/calibration.h"
#include "pipeline/outliers.h"
#include "program/command_line.h"
#include "tokenizer/tokenizer.h"

namespace CLI {
class App;
}

namespace pq::lab {

/// float32 on --device. Throws InputError for a name that is no device.
at::TensorOptions tensor_options(const CommonOptions& common);

/// --calibration, with the help that all verbs share. `source` must outlive the parsing.
void add_calibration_option(CLI::App& app, std::string& source);

/// An unquantized model with what is computed from it at most once: calibration sequences, outlier report.
class Session {
 public:
  /// `calibration` is a path or "self". Throws what opening checkpoint and tokenizer throw, and InputError for a
  /// calibration file that is not there.
  Session(const std::string& model, std::string calibration, const at::TensorOptions& options);

  const io::HfCheckpoint& checkpoint() const { return checkpoint_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const at::TensorOptions& options() const { return options_; }
  const std::string& calibration_name() const { return calibration_name_; }

  /// Sequences as the recipe asks; drawn again only when its seed or shapes changed.
  const quant::CalibrationData& calibration(const Recipe& recipe);
  /// The outlier report behind a recipe's prefix; made again only when what it depends on changed.
  const quant::OutlierReport& outliers(const Recipe& recipe);
  /// The recipe's prefix token ids.
  std::vector<std::int32_t> prefix(const Recipe& recipe);

 private:
  io::HfCheckpoint checkpoint_;
  Tokenizer tokenizer_;
  at::TensorOptions options_;
  std::string calibration_path_;
  std::string calibration_name_;
  std::string calibration_key_;
  quant::CalibrationData calibration_;
  std::string outliers_key_;
  quant::OutlierReport outliers_;
};

}  // namespace pq::lab
