#include "exchange/uniform_formats.h"

#include <fmt/format.h>

#include "base/error.h"
#include "model/block_formats.h"
#include "model/block_layout.h"

namespace pq::exchange {

void refuse_mixed_formats(const ModelSpec& spec, const Recipe& recipe, bool activations, const std::string& where) {
  for (std::int64_t block = 0; block < spec.block_count; ++block) {
    const LinearFormats formats = linear_formats(recipe, block);
    for (const LinearId id : all_linears) {
      const bool same_weights = formats.weight[id] == recipe.weight;
      if (same_weights && (!activations || formats.activation[id] == recipe.activation)) continue;
      throw UnsupportedError(fmt::format("{}: {}", where, tensor_names::linear(block, id)),
                             fmt::format("has another {} format than the recipe's, and this export has one for all",
                                         same_weights ? "activation" : "weight"),
                             "quantize without --set blocks. and linear. settings");
    }
  }
}

}  // namespace pq::exchange
