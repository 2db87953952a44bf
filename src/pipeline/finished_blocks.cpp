#include "pipeline/finished_blocks.h"

#include "tuning/exchange.h"

namespace pq::quant {

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

void FinishedBlocks::save(std::int64_t index, const QuantizedBlock& block, const std::optional<Tuning>& tuning) const {
  if (journal_ != nullptr) journal_->save_block(index, block, tuning ? tuning_to_json(*tuning) : Json::object());
}

}  // namespace pq::quant
