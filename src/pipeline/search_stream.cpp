#include "pipeline/search_stream.h"

#include <fmt/format.h>

#include <utility>

#include "base/communicator.h"
#include "base/phase_timer.h"
#include "pipeline/streams.h"
#include "tuning/exchange.h"

namespace pq::quant {

SearchStream::SearchStream(const TransformedModel& model, const Recipe& recipe, const CalibrationSet& sequences)
    : spec_(model.spec()), recipe_(recipe) {
  if (!needs_search(recipe) || !Communicator::world().is_root()) return;
  stream_ = model.embed(to_token_tensor(sequences, model.options().device()));
  log_stream("search", stream_);
}

BlockStart SearchStream::find_start(std::int64_t index, nn::Block block, const nn::BlockContext& context,
                                    const SiteStatistics& statistics) const {
  const PhaseTimer timer(fmt::format("block {}: grid search", index));
  Communicator& processes = Communicator::world();
  BlockStart start;
  if (processes.is_root()) {
    start = quant::find_start(std::move(block), context, stream_, statistics, recipe_);
  } else {
    start.block = std::move(block);
  }
  broadcast(processes, start, spec_, recipe_);
  return start;
}

void SearchStream::advance(const nn::Block& restored, const nn::BlockContext& context, const nn::Tap& tap) {
  if (stream_.defined()) propagate(restored, context, stream_, tap);
}

}  // namespace pq::quant
