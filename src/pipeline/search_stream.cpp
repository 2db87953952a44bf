#include "pipeline/search_stream.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/communicator.h"
#include "base/log.h"
#include "base/phase_timer.h"
#include "model/block_formats.h"
#include "nn/batches.h"
#include "pipeline/streams.h"
#include "quant/key_basis.h"
#include "quant/key_positions.h"
#include "quant/quantized_model.h"
#include "quant/start_search.h"
#include "tuning/exchange.h"

namespace pq::quant {
namespace {

bool all_quantized(const PerLinear<QuantizerFormat>& weights) {
  return std::all_of(weights.begin(), weights.end(), [](const QuantizerFormat& format) { return format.enabled(); });
}

}  // namespace

SearchStream::SearchStream(const TransformedModel& model, const Recipe& recipe, const CalibrationData& data,
                           const StreamDirectories& directories)
    : spec_(model.spec()), recipe_(recipe), search_sequences_(search_sequences(recipe, data.search)) {
  if (!needs_search(recipe) || !Communicator::world().is_root()) return;
  const auto bytes =
      static_cast<std::uint64_t>(data.search.samples() * data.search.length() * spec_.hidden_size) * sizeof(float);
  stream_ = embedded_stream(model, data.search, StreamPlace::choose(bytes, directories.asked, directories.scratch));
  log_stream("search", stream_);
}

nn::KeyFrame SearchStream::key_frame(std::int64_t index, const nn::Block& block, const nn::BlockContext& context,
                                     std::int64_t first_position) const {
  const BlockFormats formats = block_formats(recipe_, index);
  if (!formats.center_keys && !formats.balance_keys) return {};
  Communicator& processes = Communicator::world();
  const at::TensorOptions options = block[LinearId::k].weight.options();
  const auto floats = options.dtype(at::kFloat);
  at::Tensor basis = at::zeros({spec_.kv_head_count, spec_.head_dim, spec_.head_dim}, floats);
  at::Tensor mean = at::zeros({spec_.kv_head_count, spec_.head_dim}, floats);
  if (processes.is_root()) {
    const std::int64_t count = std::min(search_sequences_, key_sequences);
    const at::Tensor x = stream_.narrow(0, 0, count).to(options.device());
    const auto [q, k, v] = project_spread(block, context, nn::qkv_input(block, context, x, {}), first_position, 0,
                                          search_sequences_, recipe_);
    mean = k.mean(at::IntArrayRef{0, 1}).to(at::kFloat);
    if (formats.balance_keys) {
      basis = balanced_basis(formats.center_keys ? k - mean : k, q);
      mean = at::bmm(mean.unsqueeze(1), basis).squeeze(1);
    }
  }
  broadcast(processes, basis);
  broadcast(processes, mean);
  return restore_key_frame(formats.balance_keys ? to_floats(basis) : std::vector<float>{},
                           formats.center_keys ? to_floats(mean) : std::vector<float>{}, spec_, options);
}

BlockStart SearchStream::find_start(std::int64_t index, nn::Block block, const nn::BlockContext& context,
                                    const SiteStatistics& statistics) {
  const PhaseTimer timer(fmt::format("block {}: grid search", index));
  Communicator& processes = Communicator::world();
  BlockStart start;
  if (processes.is_root()) {
    if (!searches_in_one_walk(recipe_)) {
      start = quant::find_start(std::move(block), context, stream_, statistics, recipe_, index);
    } else {
      // Rounding to binary16 and fine-tuning are still to come to blocks that have them.
      advanced_ = all_quantized(block_formats(recipe_, index).weight) && !recipe_.finetune.enabled();
      StartSearch found =
          search_start(std::move(block), context, stream_, search_sequences_, recipe_, index, advanced_);
      for (const std::string& warning : found.warnings) log_warning("block {}: {}", index, warning);
      remaining_.add(found.left);
      start = std::move(found.start);
    }
  } else {
    start.block = std::move(block);
  }
  broadcast(processes, start, spec_, recipe_, index);
  return start;
}

void SearchStream::advance(const nn::Block& restored, const nn::BlockContext& context, const nn::Tap& tap) {
  if (stream_.defined() && !std::exchange(advanced_, false)) propagate(restored, context, stream_, tap);
}

}  // namespace pq::quant
