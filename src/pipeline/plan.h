#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "model/model_spec.h"
#include "model/recipe.h"

namespace pq::quant {

/// One step of quantizing and what it is expected to take.
struct PlannedStep {
  std::string name;
  double flops = 0;    ///< of matrix products, most of the work
  double seconds = 0;  ///< at the machine's rate
};

/// What `pq quantize` is about to do. An estimate: the products are counted, the rest is in proportion to them.
struct Plan {
  std::vector<PlannedStep> steps;
  double seconds = 0;
  double private_bytes = 0;  ///< peak, without mapped files
};

/// Matrix products of this process a second, measured for some tenths of a second at the model's sizes.
double measured_flops(const ModelSpec& spec);

/// `flops` a second: of measured_flops(). `resolved` has no epochs left to be decided. `rounded`: outliers are looked
/// for in bfloat16 (rounded_block.h).
Plan make_plan(const ModelSpec& spec, const Recipe& resolved, double flops, bool rounded = false);

/// "W4A4KV4, static scales, ..": the recipe in words.
std::string recipe_in_words(const Recipe& recipe);

Json plan_to_json(const Plan& plan);

}  // namespace pq::quant
