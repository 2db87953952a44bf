#include "runtime/runtime_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/index.h"
#include "model/token_range.h"
#include "runtime/forward.h"

namespace pq::runtime {

void RuntimeModel::run(std::span<const std::int32_t> tokens, std::int64_t sequences) {
  const ModelParts& parts = model_->parts();
  const auto count = static_cast<std::int64_t>(tokens.size());
  if (sequences < 1 || count == 0 || count % sequences != 0) {
    throw InputError("tokens",
                     fmt::format("{} tokens cannot be split into {} sequences of equal length", count, sequences));
  }
  for (const std::int32_t token : tokens) check_token(token, parts.spec);
  const std::int64_t length = count / sequences;
  const std::int64_t hidden = parts.spec.hidden_size;
  residual_.resize(index(count * hidden));
  Sequence sequence(parts, length);
  sequence.cover(parts, length);
  BorrowedWorkspace workspace(parts.workspaces);
  for (std::int64_t start = 0; start < count; start += length) {
    sequence.length = 0;
    const std::array runs{Run{&sequence, tokens.subspan(index(start), index(length))}};
    forward_all(parts, *workspace, runs, [&](std::int64_t first, const ConstRows& rows) {
      for (std::int64_t row = 0; row < rows.count; ++row) {
        std::copy_n(rows.row(row), hidden, residual_.data() + (start + first + row) * hidden);
      }
    });
  }
}

std::vector<std::vector<std::int64_t>> RuntimeModel::run_families(std::span<const SequenceFamily> families) {
  const ModelSpec& spec = model_->spec();
  for (const SequenceFamily& family : families) {
    for (const std::int32_t token : family.stem) check_token(token, spec);
    for (const SequenceFamily::Branch& branch : family.branches) {
      for (const std::int32_t token : branch.tokens) check_token(token, spec);
    }
  }
  return lanes_.run(families, residual_);
}

ConstRows RuntimeModel::rows_of(std::int64_t first, std::int64_t count) const {
  const std::int64_t hidden = model_->spec().hidden_size;
  const auto kept = static_cast<std::int64_t>(residual_.size()) / hidden;
  if (first < 0 || count < 0 || first > kept - count) {
    throw InputError("logits", fmt::format("tokens {} to {} of a run of {} cannot be had", first, first + count, kept));
  }
  return {residual_.data() + first * hidden, hidden, count};
}

void RuntimeModel::logits(std::int64_t first, std::int64_t count, std::span<float> out) {
  const std::int64_t vocab = model_->spec().vocab_size;
  const ConstRows all = rows_of(first, count);
  if (static_cast<std::int64_t>(out.size()) != count * vocab) {
    throw InputError("logits", fmt::format("room for {} values does not fit {} rows", out.size(), count));
  }
  BorrowedWorkspace workspace(model_->parts().workspaces);
  for (std::int64_t done = 0; done < count; done += most_rows) {
    const std::int64_t rows = std::min(most_rows, count - done);
    project_logits(model_->parts(), *workspace, {all.row(done), all.stride, rows}, out.data() + done * vocab);
  }
}

void RuntimeModel::logit_tiles(std::span<const std::int64_t> rows, const std::function<void(const LogitTile&)>& visit) {
  constexpr std::int64_t together = 256;
  const std::int64_t hidden = model_->spec().hidden_size;
  const auto count = static_cast<std::int64_t>(rows.size());
  std::vector<float> gathered(index(std::min(together, count) * hidden));
  BorrowedWorkspace workspace(model_->parts().workspaces);
  for (std::int64_t first = 0; first < count; first += together) {
    const std::int64_t part = std::min(together, count - first);
    for (std::int64_t i = 0; i < part; ++i) {
      std::copy_n(rows_of(rows[index(first + i)], 1).values, hidden, gathered.data() + i * hidden);
    }
    project_tiles(model_->parts(), *workspace, {gathered.data(), hidden, part}, [&](LogitTile tile) {
      tile.first_row += first;
      visit(tile);
    });
  }
}

}  // namespace pq::runtime
