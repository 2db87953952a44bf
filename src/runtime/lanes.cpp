#include "runtime/lanes.h"

#include <algorithm>
#include <numeric>

#include "base/index.h"
#include "runtime/forward.h"

namespace pq::runtime {

/// A family, where its lanes begin, and where its branches begin among all.
struct Lanes::Placed {
  const SequenceFamily* family;
  std::int64_t first_lane;
  std::int64_t lanes;
  std::size_t first_branch;
  std::int64_t stem_wanted = 0;  ///< rows of the stem's end that some branch wants

  Sequence& lane(const std::vector<std::unique_ptr<Sequence>>& all, std::int64_t i) const {
    return *all[index(first_lane + i)];
  }
};

/// A run of which the last rows are kept, and which they become.
struct Lanes::KeptRun {
  Run run;
  std::int64_t wanted;
  std::int64_t first_kept;
};

std::int64_t Lanes::tokens_at_once(const ModelParts& parts) {
  constexpr std::uint64_t bytes = std::uint64_t{256} << 20;
  const std::uint64_t token = parts.kv_bytes_per_token();
  return static_cast<std::int64_t>(std::clamp<std::uint64_t>(bytes / token, 512, 16384));
}

std::vector<Lanes::Placed> Lanes::place(std::span<const SequenceFamily> families) {
  std::int64_t longest = 0;
  std::int64_t per_wave = 0;  // tokens, with one lane a family
  for (const SequenceFamily& family : families) {
    longest = std::max(longest, family.longest());
    const auto stem = static_cast<std::int64_t>(family.stem.size());
    per_wave += (family.tokens() - stem) / static_cast<std::int64_t>(family.branches.size());
  }
  const auto count = static_cast<std::int64_t>(families.size());
  const std::int64_t fit = tokens_at_once(parts_) / (count * longest);
  const std::int64_t useful = (2 * most_rows + per_wave) / std::max<std::int64_t>(1, per_wave);
  const std::int64_t wish = std::max<std::int64_t>(1, std::min(fit, useful));
  std::vector<Placed> placed;
  std::int64_t lanes = 0;
  std::size_t branches = 0;
  for (const SequenceFamily& family : families) {
    Placed one{&family, lanes, std::min(wish, static_cast<std::int64_t>(family.branches.size())), branches};
    for (const SequenceFamily::Branch& branch : family.branches) {
      one.stem_wanted = std::max(one.stem_wanted, branch.wanted - static_cast<std::int64_t>(branch.tokens.size()));
    }
    lanes += one.lanes;
    branches += family.branches.size();
    placed.push_back(one);
  }
  make_lanes(longest, lanes);
  for (const auto& sequence : sequences_) {
    sequence->length = 0;
    sequence->cover(parts_, longest);
  }
  rows_.assign(branches, {});
  return placed;
}

void Lanes::make_lanes(std::int64_t tokens, std::int64_t count) {
  // Short sequences need many lanes: they do not inherit the memory of long ones.
  if (tokens > capacity_ || 2 * tokens < capacity_) {
    sequences_.clear();
    capacity_ = round_up(tokens, 32);
  }
  // A cache that was widened cannot take what a narrow one holds.
  std::erase_if(sequences_, [](const std::unique_ptr<Sequence>& lane) { return lane->cache.wide(); });
  while (static_cast<std::int64_t>(sequences_.size()) < count) {
    sequences_.push_back(std::make_unique<Sequence>(parts_, capacity_));
  }
}

void Lanes::run_and_keep(std::span<const KeptRun> runs) {
  std::vector<Run> plain;
  for (const KeptRun& one : runs) plain.push_back(one.run);
  if (plain.empty()) return;
  const std::int64_t hidden = parts_.spec.hidden_size;
  BorrowedWorkspace workspace(parts_.workspaces);
  std::size_t at = 0;          // the run that the next row belongs to
  std::int64_t run_first = 0;  // its first row
  forward_all(parts_, *workspace, plain, [&](std::int64_t first, const ConstRows& residual) {
    for (std::int64_t row = first; row < first + residual.count; ++row) {
      while (row >= run_first + static_cast<std::int64_t>(plain[at].tokens.size())) {
        run_first += static_cast<std::int64_t>(plain[at++].tokens.size());
      }
      const std::int64_t unwanted = static_cast<std::int64_t>(plain[at].tokens.size()) - runs[at].wanted;
      const std::int64_t kept = row - run_first - unwanted;
      if (kept < 0) continue;
      std::copy_n(residual.row(row - first), hidden, kept_->data() + (runs[at].first_kept + kept) * hidden);
    }
  });
}

void Lanes::run_stems(std::span<const Placed> placed) {
  std::vector<KeptRun> runs;
  std::int64_t kept = static_cast<std::int64_t>(kept_->size()) / parts_.spec.hidden_size;
  for (const Placed& one : placed) {
    runs.push_back({{&one.lane(sequences_, 0), one.family->stem}, one.stem_wanted, kept});
    kept += one.stem_wanted;
    for (std::size_t i = 0; i < one.family->branches.size(); ++i) {
      const SequenceFamily::Branch& branch = one.family->branches[i];
      const std::int64_t of_stem = branch.wanted - static_cast<std::int64_t>(branch.tokens.size());
      if (of_stem <= 0) continue;
      std::vector<std::int64_t>& rows = rows_[one.first_branch + i];
      rows.resize(index(of_stem));
      std::iota(rows.begin(), rows.end(), kept - of_stem);
    }
  }
  kept_->resize(index(kept * parts_.spec.hidden_size));
  run_and_keep(runs);
  for (const Placed& one : placed) {
    const Sequence& first = one.lane(sequences_, 0);
    for (std::int64_t i = 1; i < one.lanes; ++i) {
      Sequence& copy = one.lane(sequences_, i);
      copy.cache.copy_tokens(first.cache, first.length);
      copy.length = first.length;
    }
  }
}

void Lanes::run_branches(std::span<const Placed> placed, std::int64_t wave) {
  std::vector<KeptRun> runs;
  std::int64_t kept = static_cast<std::int64_t>(kept_->size()) / parts_.spec.hidden_size;
  for (const Placed& one : placed) {
    for (std::int64_t lane = 0; lane < one.lanes; ++lane) {
      const std::size_t i = index(wave * one.lanes + lane);
      if (i >= one.family->branches.size()) break;
      const SequenceFamily::Branch& branch = one.family->branches[i];
      if (branch.tokens.empty()) continue;
      const std::int64_t wanted = std::min(branch.wanted, static_cast<std::int64_t>(branch.tokens.size()));
      runs.push_back({{&one.lane(sequences_, lane), branch.tokens}, wanted, kept});
      std::vector<std::int64_t>& rows = rows_[one.first_branch + i];
      for (std::int64_t row = 0; row < wanted; ++row) rows.push_back(kept++);
    }
  }
  kept_->resize(index(kept * parts_.spec.hidden_size));
  run_and_keep(runs);
  for (const Placed& one : placed) {
    const auto stem = static_cast<std::int64_t>(one.family->stem.size());
    for (std::int64_t lane = 0; lane < one.lanes; ++lane) one.lane(sequences_, lane).length = stem;
  }
}

std::vector<std::vector<std::int64_t>> Lanes::run(std::span<const SequenceFamily> families, std::vector<float>& kept) {
  kept.clear();
  kept_ = &kept;
  const std::vector<Placed> placed = place(families);
  run_stems(placed);
  std::int64_t waves = 0;
  for (const Placed& one : placed) {
    const auto branches = static_cast<std::int64_t>(one.family->branches.size());
    waves = std::max(waves, (branches + one.lanes - 1) / one.lanes);
  }
  for (std::int64_t wave = 0; wave < waves; ++wave) run_branches(placed, wave);
  return std::move(rows_);
}

}  // namespace pq::runtime
