#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/language_model.h"
#include "runtime/model.h"

namespace pq::runtime {

/// The runtime as the evaluation harness sees it. Sequences run one after the other, in pieces of most_rows tokens; a
/// dynamic per-tensor scale is that of a piece.
class RuntimeModel : public LanguageModel {
 public:
  explicit RuntimeModel(std::shared_ptr<const Model> model) : model_(std::move(model)) {}

  const ModelSpec& spec() const override { return model_->spec(); }
  std::int64_t prefix_length() const override { return model_->prefix_length(); }
  void run(std::span<const std::int32_t> tokens, std::int64_t sequences) override;
  void logits(std::int64_t first, std::int64_t count, std::span<float> out) override;

 private:
  std::shared_ptr<const Model> model_;
  std::vector<float> residual_;  // [tokens, hidden] of the last run, before the final norm
};

}  // namespace pq::runtime
