#include "pipeline/finished_blocks.h"

#include "tuning/exchange.h"

namespace pq::quant {
namespace {

constexpr const char* errors_key = "layer_errors";

}  // namespace

FinishedBlocks::FinishedBlocks(io::ResumeJournal* journal, Communicator& processes, const ModelSpec& spec,
                               const Recipe& recipe)
    : journal_(journal), processes_(processes), spec_(spec), recipe_(recipe) {}

bool FinishedBlocks::contains(std::int64_t index) const {
  return broadcast(processes_, Json(journal_ != nullptr && index < journal_->finished_blocks())).get<bool>();
}

QuantizedBlock FinishedBlocks::block(std::int64_t index) const {
  QuantizedBlock block;
  if (journal_ != nullptr) block = journal_->block(index);
  broadcast(processes_, block, spec_, recipe_, index);
  return block;
}

std::optional<Tuning> FinishedBlocks::tuning(std::int64_t index) const {
  if (recipe_.finetune.epochs <= 0) return std::nullopt;
  return tuning_from_json(broadcast(processes_, journal_ != nullptr ? journal_->block_notes(index) : Json()));
}

std::optional<LayerErrors> FinishedBlocks::errors(std::int64_t index) const {
  if (journal_ == nullptr) return std::nullopt;
  const Json notes = journal_->block_notes(index);
  return layer_errors_from_json(notes.is_object() ? notes.value(errors_key, Json()) : Json());
}

void FinishedBlocks::save(std::int64_t index, const QuantizedBlock& block, const std::optional<Tuning>& tuning,
                          const std::optional<LayerErrors>& errors) const {
  if (journal_ == nullptr) return;
  Json notes = tuning ? tuning_to_json(*tuning) : Json::object();
  if (errors) notes[errors_key] = layer_errors_to_json(*errors);
  journal_->save_block(index, block, notes);
}

}  // namespace pq::quant
