#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "report/page.h"

namespace pq::report {

/// What a run of quantizing knows of itself, for its page. Whatever is empty was not measured and is left out.
struct QuantizationReport {
  std::string model;
  std::string recipe;     ///< "w4a4kv4-static"
  std::string precision;  ///< "W4A4KV4"
  std::string recipe_in_words;
  std::string prefix_text;  ///< empty: no prefix
  std::vector<std::int32_t> prefix_token_ids;
  std::string calibration;
  std::vector<std::pair<std::string, std::string>> settings;  ///< every field of the recipe

  std::vector<std::string> linears;                ///< "q_proj", ...: columns of what follows
  std::vector<std::vector<double>> linear_errors;  ///< [blocks][linears]: ||y - y'||^2 over ||y||^2, quantized alone
  std::vector<double> block_errors;                ///< [blocks]: the same of the block's output
  std::vector<std::vector<double>> weight_scales;  ///< [blocks][linears]: the median scale
  std::vector<std::string> sites;                  ///< "mlp.down_input", ...
  std::vector<std::vector<double>> site_scales;    ///< [blocks][sites]: static scales (the largest of several)
  std::vector<std::vector<double>> site_clips;     ///< [blocks][sites]: dynamic clip factors of the maximum

  /// The losses of one thing that was tuned.
  struct Tuning {
    std::string name;                ///< "block 3", "end to end"
    std::string loss;                ///< what its losses are: "relative squared error"
    double start = 0;                ///< on the sequences held back, before
    double end = 0;                  ///< and of what was kept
    std::vector<double> training;    ///< one an epoch
    std::vector<double> validation;  ///< one an epoch
    bool kept_start = false;
  };
  std::vector<Tuning> tuning;

  std::vector<double> block_seconds;
  struct Step {
    std::string name;
    double seconds = 0;
  };
  std::vector<Step> steps;
  double seconds = 0;
  std::uint64_t checkpoint_bytes = 0;
  std::uint64_t memory_bytes = 0;  ///< private, at the peak

  struct Outliers {
    double per_sequence = 0;
    double sequence_share = 0;
    double max_ratio = 0;
  };
  std::optional<Outliers> remaining;  ///< with the prefix in place
};

Page to_page(const QuantizationReport& report);

/// The linears with the largest errors, the largest first, each with the setting that would keep it at 8 bits:
/// "blocks.11.linear.down_proj.weight.bits=8".
struct WorstLinear {
  std::size_t block = 0;
  std::string linear;
  double error = 0;
  std::string setting;
};
std::vector<WorstLinear> worst_linears(const QuantizationReport& report, std::size_t most = 10);

}  // namespace pq::report
