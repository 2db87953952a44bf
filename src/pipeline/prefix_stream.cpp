#include "pipeline/prefix_stream.h"

#include "pipeline/streams.h"
#include "quant/quantized_model.h"

namespace pq::quant {

PrefixStream::PrefixStream(const TransformedModel& model, const nn::ModelContext& contexts,
                           const std::vector<std::int32_t>& ids)
    : model_(model), contexts_(contexts) {
  if (ids.empty()) return;
  prefix_.length = static_cast<std::int64_t>(ids.size());
  prefix_.token_ids = ids;
  stream_ = model.embed(to_token_tensor({{ids}}, model.options().device()));
}

const nn::KeyValue* PrefixStream::advance(const nn::Block& block, std::int64_t index, const nn::Tap& tap) {
  if (empty()) return nullptr;
  nn::KeyValue computed;
  stream_ = nn::forward(block, contexts_.block(index), stream_, tap, &computed);
  constexpr std::string_view without_prefix = "quantize without a prefix (--prefix none)";
  in_half(computed.key, "the prefix's keys", without_prefix);
  in_half(computed.value, "the prefix's values", without_prefix);
  prefix_.blocks.push_back(save_prefix(computed));
  current_ = restored(prefix_.blocks.back());
  return &current_;
}

std::vector<nn::KeyValue> PrefixStream::key_values() const {
  std::vector<nn::KeyValue> all;
  for (const Prefix::BlockKv& saved : prefix_.blocks) all.push_back(restored(saved));
  return all;
}

nn::KeyValue PrefixStream::restored(const Prefix::BlockKv& saved) const {
  return restore_prefix(saved, model_.spec(), prefix_.length, model_.options());
}

}  // namespace pq::quant
