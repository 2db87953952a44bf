#include "eval/token_scores.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/index.h"
#include "eval/softmax.h"

namespace pq::eval {
namespace {

/// What is found of a query in the tile that holds its token.
struct Found {
  float logit = 0;
  bool first_largest = false;  ///< of the tile's logits
};

/// The queries sorted by row, and the rows.
struct SortedQueries {
  explicit SortedQueries(std::span<const TokenQuery> queries) : order(queries.size()) {
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return queries[a].row < queries[b].row; });
    for (std::size_t i = 0; i < order.size(); ++i) {
      if (i > 0 && queries[order[i]].row == rows.back()) continue;
      rows.push_back(queries[order[i]].row);
      first.push_back(i);
    }
    first.push_back(order.size());
  }

  std::vector<std::size_t> order;  ///< [queries]
  std::vector<std::int64_t> rows;  ///< each once
  std::vector<std::size_t> first;  ///< of each row, in `order`; and the end
};

/// A row's tiles joined, in the order of the vocabulary.
LogitStats join(std::span<const LogitStats> tiles) {
  LogitStats all{.max = std::numeric_limits<float>::lowest(), .log_sum = 0, .finite = true};
  for (const LogitStats& tile : tiles) {
    all.max = std::max(all.max, tile.max);
    all.finite = all.finite && tile.finite;
  }
  double sum = 0;
  for (const LogitStats& tile : tiles) {
    sum += std::exp(tile.log_sum + static_cast<double>(tile.max) - static_cast<double>(all.max));
  }
  all.log_sum = std::log(sum);
  return all;
}

}  // namespace

std::vector<TokenScore> token_scores(LanguageModel& model, std::span<const TokenQuery> queries) {
  constexpr std::int64_t tile_ids = LanguageModel::tile_ids;
  const SortedQueries sorted(queries);
  const std::size_t tiles = index((model.spec().vocab_size + tile_ids - 1) / tile_ids);
  std::vector<LogitStats> stats(sorted.rows.size() * tiles);
  std::vector<Found> found(queries.size());
  model.logit_tiles(sorted.rows, [&](const LogitTile& tile) {
    for (std::int64_t i = 0; i < tile.rows; ++i) {
      const std::size_t row = index(tile.first_row + i);
      const std::span logits(tile.values + i * tile.stride, index(tile.ids));
      const LogitStats& of_tile = stats[row * tiles + index(tile.first_id / tile_ids)] = logit_stats(logits);
      for (std::size_t at = sorted.first[row]; at < sorted.first[row + 1]; ++at) {
        const std::int64_t id = queries[sorted.order[at]].token - tile.first_id;
        if (id < 0 || id >= tile.ids) continue;
        const float logit = logits[index(id)];
        found[sorted.order[at]] = {logit, logit == of_tile.max && first_index_of(logits, logit) == id};
      }
    }
  });
  std::vector<TokenScore> scores(queries.size());
  for (std::size_t row = 0; row < sorted.rows.size(); ++row) {
    const std::span of_row = std::span(stats).subspan(row * tiles, tiles);
    const LogitStats all = join(of_row);
    const auto first_tile =
        std::find_if(of_row.begin(), of_row.end(), [&](const LogitStats& tile) { return tile.max == all.max; });
    for (std::size_t at = sorted.first[row]; at < sorted.first[row + 1]; ++at) {
      const std::size_t query = sorted.order[at];
      TokenScore& score = scores[query];
      if (!all.finite) {
        score.log_probability = std::numeric_limits<double>::quiet_NaN();
        continue;
      }
      score.log_probability = static_cast<double>(found[query].logit) - static_cast<double>(all.max) - all.log_sum;
      const auto own_tile = static_cast<std::ptrdiff_t>(queries[query].token / tile_ids);
      score.greedy = found[query].first_largest && first_tile - of_row.begin() == own_tile;
    }
  }
  return scores;
}

}  // namespace pq::eval
