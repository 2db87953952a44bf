#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "program/command_line.h"

namespace pq::lab {

/// What `pq analyze OUT` is asked of a quantized checkpoint.
struct DamageOptions {
  std::string model;
  std::string calibration = "self";
  std::optional<std::string> output;
  bool force = false;
  std::string against;         ///< empty: the model that the checkpoint names as its source
  std::int64_t tokens = 2048;  ///< of text
  std::int64_t linears = 20;   ///< layers whose KL divergence is measured
};

/// --against, --tokens and --linears. `options` must outlive the parsing.
void add_damage_options(CLI::App& app, DamageOptions& options);

/// Which layers of a quantized checkpoint hurt: the exit code of `pq analyze`.
int analyze_quantized(const DamageOptions& options, const CommonOptions& common);

}  // namespace pq::lab
