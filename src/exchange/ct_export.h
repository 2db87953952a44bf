#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "exchange/ct_plan.h"
#include "io/quantized_checkpoint.h"

namespace pq::exchange {

struct CtOptions {
  bool replace = false;       ///< an export of this program that stands at the path
  bool round_scales = false;  ///< scales that are no numbers of the model's 16-bit type; else they are refused
  bool prefix = true;         ///< as tokens in front of every text
  std::uint64_t max_shard_bytes = io::default_shard_bytes;
};

struct CtExport {
  CtPlan plan;
  std::uint64_t bytes = 0;
  std::size_t files = 0;
  std::vector<std::int32_t> prefix_token_ids;  ///< that the tokenizer puts in front; empty without
  bool chat_prefix = false;                    ///< the chat template begins with them too
  double largest_scale_change = 0;             ///< relative; 0: every weight is equal
};

/// Writes a quantized checkpoint as a directory that vLLM and transformers load with compressed-tensors, block by
/// block. It is read back with io::ForeignCheckpoint, and every code, scale and zero point compared, before it gets its
/// name. Throws what plan_compressed_tensors throws, UnsupportedError for scales or zero points that the format has no
/// place for, InputError for the target, SystemError for the disk. Nothing half-written appears.
CtExport export_compressed_tensors(const io::QuantizedCheckpoint& checkpoint, const std::filesystem::path& out,
                                   const CtOptions& options);

}  // namespace pq::exchange
