#include "pipeline/streams.h"

#include <algorithm>

#include "base/log.h"
#include "base/progress.h"
#include "nn/batches.h"

namespace pq::quant {

at::Tensor to_token_tensor(const CalibrationSet& set, const at::Device& device) {
  at::Tensor tokens = at::empty({set.samples(), set.length()}, at::kLong);
  auto* out = tokens.data_ptr<std::int64_t>();
  for (const auto& sequence : set.sequences) out = std::copy(sequence.begin(), sequence.end(), out);
  return tokens.to(device);
}

at::Tensor embedded_stream(const TransformedModel& model, const CalibrationSet& set, const StreamPlace& place) {
  at::Tensor stream = place.allocate({set.samples(), set.length(), model.spec().hidden_size});
  for (std::int64_t i = 0; i < set.samples(); ++i) {
    const CalibrationSet one{{set.sequences[static_cast<std::size_t>(i)]}};
    stream.narrow(0, i, 1).copy_(model.embed(to_token_tensor(one, model.options().device())));
  }
  return stream;
}

void propagate(const nn::Block& block, const nn::BlockContext& context, at::Tensor& stream, const nn::Tap& tap) {
  const std::int64_t sequences = stream.size(0);
  const std::int64_t step = nn::sequences_together(stream.size(1));
  const at::Device device = block[LinearId::q].weight.device();
  for (std::int64_t begin = 0; begin < sequences; begin += step) {
    at::Tensor rows = stream.narrow(0, begin, std::min(step, sequences - begin));
    rows.copy_(nn::forward(block, context, rows.to(device), tap));
  }
}

void log_stream(std::string_view name, const at::Tensor& stream) {
  log_verbose("{} stream: {} x {} tokens, {} in memory", name, stream.size(0), stream.size(1),
              format_bytes(static_cast<double>(stream.nbytes())));
}

}  // namespace pq::quant
