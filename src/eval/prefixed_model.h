#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/language_model.h"

namespace pq::eval {

/// A model that gets the same tokens in front of every sequence, computed as any others are: what a program does that
/// knows no prefix but in its tokenizer.
class PrefixedModel : public LanguageModel {
 public:
  /// `model` outlives the object.
  PrefixedModel(LanguageModel& model, std::vector<std::int32_t> ids) : model_(model), ids_(std::move(ids)) {}

  const ModelSpec& spec() const override { return model_.spec(); }
  std::int64_t prefix_length() const override {
    return model_.prefix_length() + static_cast<std::int64_t>(ids_.size());
  }
  void run(std::span<const std::int32_t> tokens, std::int64_t sequences) override;
  void logits(std::int64_t first, std::int64_t count, std::span<float> out) override;
  void logit_tiles(std::span<const std::int64_t> rows, const std::function<void(const LogitTile&)>& visit) override;

 private:
  std::int64_t inner_row(std::int64_t row) const;

  LanguageModel& model_;
  std::vector<std::int32_t> ids_;
  std::int64_t length_ = 1;  // of a sequence of the last run, without the ids
};

}  // namespace pq::eval
