#include "pipeline/error_stream.h"

#include <algorithm>

#include "base/communicator.h"
#include "pipeline/streams.h"

namespace pq::quant {
namespace {

constexpr std::size_t most_sequences = 2;
constexpr std::size_t most_tokens = 64;

}  // namespace

ErrorStream::ErrorStream(const TransformedModel& model, const Recipe& recipe, const CalibrationData& data) {
  const CalibrationSet& from = data.search.sequences.empty() ? data.detection : data.search;
  if (from.sequences.empty() || !Communicator::world().is_root()) return;
  CalibrationSet few;
  for (std::size_t i = 0; i < std::min(most_sequences, from.sequences.size()); ++i) {
    const auto& sequence = from.sequences[i];
    few.sequences.emplace_back(sequence.begin(),
                               sequence.begin() + static_cast<std::ptrdiff_t>(std::min(most_tokens, sequence.size())));
  }
  stream_ = model.embed(to_token_tensor(few, model.options().device()));
  kinds_ = KindStreams(quantized_kinds(recipe, model.spec().block_count), stream_);
}

std::optional<LayerErrors> ErrorStream::measure(const nn::Block& whole, const nn::Block& rounded, const nn::Tap& tap,
                                                const nn::BlockContext& context) {
  if (!stream_.defined()) return std::nullopt;
  at::Tensor output;
  const LayerErrors errors = layer_errors(whole, rounded, tap, context, stream_, output);
  stream_ = output;
  kinds_.advance(whole, rounded, tap, context);
  return errors;
}

void ErrorStream::advance(const nn::Block& whole, const nn::Block& rounded, const nn::Tap& tap,
                          const nn::BlockContext& context) {
  if (!stream_.defined()) return;
  stream_ = nn::forward(rounded, context, stream_, tap);
  kinds_.advance(whole, rounded, tap, context);
}

}  // namespace pq::quant
