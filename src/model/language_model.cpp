#include "model/language_model.h"

#include <algorithm>
#include <numeric>

#include "base/index.h"
#include "base/parallel_for.h"

namespace pq {

std::int64_t SequenceFamily::longest() const {
  std::size_t branch = 0;
  for (const Branch& one : branches) branch = std::max(branch, one.tokens.size());
  return static_cast<std::int64_t>(stem.size() + branch);
}

std::int64_t SequenceFamily::tokens() const {
  std::size_t sum = stem.size();
  for (const Branch& one : branches) sum += one.tokens.size();
  return static_cast<std::int64_t>(sum);
}

std::vector<std::vector<std::int64_t>> LanguageModel::run_families(std::span<const SequenceFamily> families) {
  std::int64_t longest = 0;
  for (const SequenceFamily& family : families) longest = std::max(longest, family.longest());
  std::vector<std::int32_t> tokens;
  std::vector<std::vector<std::int64_t>> wanted;
  std::int64_t sequences = 0;
  for (const SequenceFamily& family : families) {
    for (const SequenceFamily::Branch& branch : family.branches) {
      tokens.insert(tokens.end(), family.stem.begin(), family.stem.end());
      tokens.insert(tokens.end(), branch.tokens.begin(), branch.tokens.end());
      std::vector<std::int64_t>& rows = wanted.emplace_back(index(branch.wanted));
      std::iota(rows.begin(), rows.end(), static_cast<std::int64_t>(tokens.size()) - branch.wanted);
      ++sequences;
      tokens.resize(index(sequences * longest), family.stem.front());  // nothing before it sees it
    }
  }
  run(tokens, sequences);
  return wanted;
}

void LanguageModel::logit_tiles(std::span<const std::int64_t> rows,
                                const std::function<void(const LogitTile&)>& visit) {
  constexpr std::int64_t tile_values = std::int64_t{16} << 20;
  const std::int64_t vocab = spec().vocab_size;
  const std::int64_t most = std::max<std::int64_t>(1, tile_values / vocab);
  const auto count = static_cast<std::int64_t>(rows.size());
  std::vector<float> values;
  for (std::int64_t first = 0; first < count;) {
    // Neighbouring rows are fetched together.
    std::int64_t next = first + 1;
    while (next < count && next - first < most && rows[index(next)] == rows[index(next - 1)] + 1) ++next;
    values.resize(index((next - first) * vocab));
    logits(rows[index(first)], next - first, values);
    parallel_for(index((vocab + tile_ids - 1) / tile_ids), 8, [&](std::size_t begin, std::size_t end) {
      for (auto tile = static_cast<std::int64_t>(begin); tile < static_cast<std::int64_t>(end); ++tile) {
        const std::int64_t first_id = tile * tile_ids;
        visit({first, next - first, first_id, std::min(tile_ids, vocab - first_id), values.data() + first_id, vocab});
      }
    });
    first = next;
  }
}

}  // namespace pq
