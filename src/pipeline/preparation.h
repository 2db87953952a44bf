#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <string>
#include <vector>

#include "io/hf_checkpoint.h"
#include "model/recipe.h"
#include "pipeline/calibration.h"
#include "pipeline/outliers.h"
#include "tokenizer/tokenizer.h"

namespace pq::quant {

/// The method's first half (paper, sections 4.1 and 4.2) on one unquantized model: calibration sequences, the outliers
/// in them, the prefix that takes these in. Each is computed at most once for the settings that it depends on, so that
/// many recipes can be quantized one after the other.
class Preparation {
 public:
  /// `model` is a directory or a name in the Hugging Face cache, `calibration` a path, or "self" for sequences sampled
  /// from the model. Throws what opening checkpoint and tokenizer throw, and InputError for a calibration text that is
  /// not there. `context` as for HfCheckpoint::open.
  Preparation(const std::string& model, std::string calibration, const at::TensorOptions& options,
              std::int64_t context = 0);

  const io::HfCheckpoint& checkpoint() const { return checkpoint_; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  const at::TensorOptions& options() const { return options_; }
  /// "self", or the last name of the calibration text's path.
  const std::string& calibration_name() const { return calibration_name_; }

  /// The recipe with what it leaves to this model decided: where R1 is, and with kv.symmetric = auto whether K and V
  /// need zero points. Throws UnsupportedError as residual_rotation does.
  Recipe settled(Recipe recipe);
  /// Sequences as the recipe asks; drawn again only when its seed or shapes changed.
  const CalibrationData& calibration(const Recipe& recipe);
  /// The outlier report behind a recipe's prefix; made again only when what it depends on changed.
  const OutlierReport& outliers(const Recipe& recipe);
  /// The recipe's prefix token ids.
  std::vector<std::int32_t> prefix(const Recipe& recipe);

 private:
  io::HfCheckpoint checkpoint_;
  Tokenizer tokenizer_;
  at::TensorOptions options_;
  std::string calibration_path_;
  std::string calibration_name_;
  std::string calibration_key_;
  CalibrationData calibration_;
  std::string outliers_key_;
  OutlierReport outliers_;
};

}  // namespace pq::quant
