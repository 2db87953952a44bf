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

void RuntimeModel::logits(std::int64_t first, std::int64_t count, std::span<float> out) {
  const ModelSpec& spec = model_->spec();
  const auto kept = static_cast<std::int64_t>(residual_.size()) / spec.hidden_size;
  if (first < 0 || count < 0 || first > kept - count ||
      static_cast<std::int64_t>(out.size()) != count * spec.vocab_size) {
    throw InputError("logits", fmt::format("tokens {} to {} of a run of {} cannot be had", first, first + count, kept));
  }
  BorrowedWorkspace workspace(model_->parts().workspaces);
  for (std::int64_t done = 0; done < count; done += most_rows) {
    const std::int64_t rows = std::min(most_rows, count - done);
    const ConstRows residual(residual_.data() + (first + done) * spec.hidden_size, spec.hidden_size, rows);
    project_logits(model_->parts(), *workspace, residual, out.data() + done * spec.vocab_size);
  }
}

}  // namespace pq::runtime
