#pragma once

#include <ATen/ATen.h>

#include <memory>
#include <vector>

#include "model/recipe.h"
#include "quant/transform.h"

namespace pq::quant {

/// The transforms that a recipe asks for.
std::vector<std::unique_ptr<Transform>> make_transforms(const ModelSpec& spec, const Recipe& recipe,
                                                        const at::Device& device);

}  // namespace pq::quant
