#include "pipeline/search_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/communicator.h"
#include "base/log.h"
#include "base/phase_timer.h"
#include "pipeline/streams.h"
#include "quant/start_search.h"
#include "tuning/exchange.h"
#include "tuning/stream_place.h"

namespace pq::quant {

SearchStream::SearchStream(const TransformedModel& model, const Recipe& recipe, const CalibrationData& data,
                           const StreamDirectories& directories)
    : spec_(model.spec()), recipe_(recipe), search_sequences_(search_sequences(recipe, data.search)) {
  if (!needs_search(recipe) || !Communicator::world().is_root()) return;
  const std::int64_t samples = data.search.samples();
  const std::int64_t length = data.search.length();
  const auto bytes = static_cast<std::uint64_t>(samples * length * spec_.hidden_size) * sizeof(float);
  stream_ =
      StreamPlace::choose(bytes, directories.asked, directories.scratch).allocate({samples, length, spec_.hidden_size});
  for (std::int64_t i = 0; i < samples; ++i) {
    const CalibrationSet one{{data.search.sequences[static_cast<std::size_t>(i)]}};
    stream_.narrow(0, i, 1).copy_(model.embed(to_token_tensor(one, model.options().device())));
  }
  log_stream("search", stream_);
}

BlockStart SearchStream::find_start(std::int64_t index, nn::Block block, const nn::BlockContext& context,
                                    const SiteStatistics& statistics) {
  const PhaseTimer timer(fmt::format("block {}: grid search", index));
  Communicator& processes = Communicator::world();
  BlockStart start;
  if (processes.is_root()) {
    if (!searches_in_one_walk(recipe_)) {
      start = quant::find_start(std::move(block), context, stream_, statistics, recipe_);
    } else {
      // Rounding to binary16 and fine-tuning are still to come to blocks that have them.
      advanced_ = recipe_.weight.enabled() && !recipe_.finetune.enabled();
      StartSearch found = search_start(std::move(block), context, stream_, search_sequences_, recipe_,
                                       fmt::format("block {}", index), advanced_);
      for (const std::string& warning : found.warnings) log_warning("block {}: {}", index, warning);
      remaining_.add(found.left);
      start = std::move(found.start);
    }
  } else {
    start.block = std::move(block);
  }
  broadcast(processes, start, spec_, recipe_);
  return start;
}

void SearchStream::advance(const nn::Block& restored, const nn::BlockContext& context, const nn::Tap& tap) {
  if (stream_.defined() && !std::exchange(advanced_, false)) propagate(restored, context, stream_, tap);
}

}  // namespace pq::quant
