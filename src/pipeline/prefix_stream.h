#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <vector>

#include "model/quantized_block.h"
#include "nn/model_context.h"
#include "pipeline/transformed_model.h"

namespace pq::quant {

/// The prefix on its way through the full-precision blocks. Its K and V in each, rounded to binary16, are what the
/// checkpoint pins there.
class PrefixStream {
 public:
  /// Model and contexts are borrowed. Without `ids` there is no prefix.
  PrefixStream(const TransformedModel& model, const nn::ModelContext& contexts, const std::vector<std::int32_t>& ids);

  bool empty() const { return !stream_.defined(); }
  std::int64_t length() const { return prefix_.length; }
  /// Goes through block `index`, watched by `tap`. The block's prefix, valid until the next call; null without one.
  /// Throws UnsupportedError for values beyond the range of binary16.
  const nn::KeyValue* advance(const nn::Block& block, std::int64_t index, const nn::Tap& tap = {});
  /// The prefixes of the blocks that it has gone through, one each; none without a prefix.
  std::vector<nn::KeyValue> key_values() const;
  const Prefix& prefix() const { return prefix_; }

 private:
  nn::KeyValue restored(const Prefix::BlockKv& saved) const;

  const TransformedModel& model_;
  const nn::ModelContext& contexts_;
  at::Tensor stream_;  // [1, tokens, hidden]
  Prefix prefix_;
  nn::KeyValue current_;
};

}  // namespace pq::quant
