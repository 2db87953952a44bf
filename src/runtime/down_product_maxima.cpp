#include "runtime/down_product_maxima.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/index.h"
#include "model/token_range.h"
#include "runtime/forward.h"

namespace pq::runtime {

std::vector<std::vector<float>> down_product_maxima(const Model& model, std::span<const std::int32_t> tokens) {
  const ModelParts& parts = model.parts();
  for (const std::int32_t token : tokens) check_token(token, parts.spec);
  std::vector<std::vector<float>> maxima(index(parts.spec.block_count));
  if (tokens.empty()) return maxima;
  const auto length = static_cast<std::int64_t>(tokens.size());
  Sequence sequence(parts, length);
  sequence.cover(parts, length);
  BorrowedWorkspace workspace(parts.workspaces);
  while (sequence.length < length) {
    const std::int64_t count = std::min(most_rows, length - sequence.length);
    const std::array runs{Run{&sequence, tokens.subspan(index(sequence.length), index(count))}};
    forward(parts, *workspace, runs, [&](Stage stage, std::int64_t block) {
      if (stage != Stage::product) return;
      const Rows product = workspace->product.rows(count);
      for (std::int64_t row = 0; row < count; ++row) {
        const std::span values(product.row(row), index(parts.spec.intermediate_size));
        float largest = 0;
        for (const float value : values) largest = std::max(largest, std::fabs(value));
        maxima[index(block)].push_back(largest);
      }
    });
    sequence.length += count;
  }
  return maxima;
}

}  // namespace pq::runtime
