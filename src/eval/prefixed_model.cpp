#include "eval/prefixed_model.h"

#include <algorithm>

namespace pq::eval {

void PrefixedModel::run(std::span<const std::int32_t> tokens, std::int64_t sequences) {
  length_ = std::max<std::int64_t>(1, static_cast<std::int64_t>(tokens.size()) / std::max<std::int64_t>(1, sequences));
  std::vector<std::int32_t> all;
  for (std::int64_t i = 0; i < sequences; ++i) {
    const auto sequence = tokens.subspan(static_cast<std::size_t>(i * length_), static_cast<std::size_t>(length_));
    all.insert(all.end(), ids_.begin(), ids_.end());
    all.insert(all.end(), sequence.begin(), sequence.end());
  }
  model_.run(all, sequences);
}

std::int64_t PrefixedModel::inner_row(std::int64_t row) const {
  return row + (row / length_ + 1) * static_cast<std::int64_t>(ids_.size());
}

void PrefixedModel::logits(std::int64_t first, std::int64_t count, std::span<float> out) {
  const auto row_size = static_cast<std::size_t>(spec().vocab_size);
  for (std::int64_t row = first; row < first + count;) {
    const std::int64_t rows = std::min(first + count, (row / length_ + 1) * length_) - row;
    model_.logits(
        inner_row(row), rows,
        out.subspan(static_cast<std::size_t>(row - first) * row_size, static_cast<std::size_t>(rows) * row_size));
    row += rows;
  }
}

void PrefixedModel::logit_tiles(std::span<const std::int64_t> rows,
                                const std::function<void(const LogitTile&)>& visit) {
  std::vector<std::int64_t> inner(rows.size());
  std::transform(rows.begin(), rows.end(), inner.begin(), [&](std::int64_t row) { return inner_row(row); });
  model_.logit_tiles(inner, visit);
}

}  // namespace pq::eval
