#include "quant/recipe_transforms.h"

#include "quant/rotate.h"

namespace pq::quant {

std::vector<std::unique_ptr<Transform>> make_transforms(const ModelSpec& spec, const Recipe& recipe,
                                                        const at::Device& device) {
  std::vector<std::unique_ptr<Transform>> transforms;
  if (recipe.rotate.any()) transforms.push_back(std::make_unique<Rotation>(spec, recipe.rotate, recipe.seed, device));
  return transforms;
}

}  // namespace pq::quant
