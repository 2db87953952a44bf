#include "quant/key_positions.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace pq::quant {

std::int64_t key_offset(std::int64_t index, std::int64_t count, std::int64_t room) {
  const std::int64_t places = std::min(count, key_sequences);
  if (places < 2 || room < 1) return 0;
  const double share = static_cast<double>(index % places) / static_cast<double>(places - 1);
  return std::llround(static_cast<double>(room) * share * share * share);
}

nn::Qkv project_spread(const nn::Block& block, const nn::BlockContext& context, const at::Tensor& h,
                       std::int64_t first_position, std::int64_t first_index, std::int64_t count,
                       const Recipe& recipe) {
  std::int64_t reach = std::min(recipe.search.positions, context.spec->max_positions);
  if (context.rope->positions() > 0) reach = std::min(reach, context.rope->positions() - first_position);
  std::vector<at::Tensor> q, k, v;
  for (std::int64_t i = 0; i < h.size(0); ++i) {
    const std::int64_t offset = key_offset(first_index + i, count, reach - h.size(1));
    nn::Qkv qkv = nn::project_qkv(block, context, h.narrow(0, i, 1), first_position + offset, {});
    q.push_back(std::move(qkv.q));
    k.push_back(std::move(qkv.k));
    v.push_back(std::move(qkv.v));
  }
  return {at::cat(q), at::cat(k), at::cat(v)};
}

}  // namespace pq::quant
