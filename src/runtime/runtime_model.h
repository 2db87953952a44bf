#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/language_model.h"
#include "runtime/lanes.h"
#include "runtime/model.h"

namespace pq::runtime {

/// The runtime as the evaluation harness sees it. Sequences run one after the other, in pieces of most_rows tokens; a
/// dynamic per-tensor scale is that of a piece.
class RuntimeModel : public LanguageModel {
 public:
  explicit RuntimeModel(std::shared_ptr<const Model> model) : model_(std::move(model)), lanes_(model_->parts()) {}

  const ModelSpec& spec() const override { return model_->spec(); }
  std::int64_t prefix_length() const override { return model_->prefix_length(); }
  void run(std::span<const std::int32_t> tokens, std::int64_t sequences) override;
  void logits(std::int64_t first, std::int64_t count, std::span<float> out) override;

  bool shares_stems() const override { return true; }
  std::int64_t family_tokens() const override { return Lanes::tokens_at_once(model_->parts()); }
  std::vector<std::vector<std::int64_t>> run_families(std::span<const SequenceFamily> families) override;
  void logit_tiles(std::span<const std::int64_t> rows, const std::function<void(const LogitTile&)>& visit) override;

 private:
  ConstRows rows_of(std::int64_t first, std::int64_t count) const;

  std::shared_ptr<const Model> model_;
  Lanes lanes_;
  std::vector<float> residual_;  // [rows, hidden] of the last run, before the final norm
};

}  // namespace pq::runtime
