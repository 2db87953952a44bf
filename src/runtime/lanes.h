#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/language_model.h"
#include "runtime/model_parts.h"
#include "runtime/sequence.h"

namespace pq::runtime {

/// Families of sequences on the runtime. The stem of each is computed once, in a lane: a KV cache that takes one branch
/// after the other and forgets it again. A family with many branches gets several lanes, with copies of its stem, so
/// that enough tokens go through the layers together; lanes and their memory are kept for the next call.
class Lanes {
 public:
  explicit Lanes(const ModelParts& parts) : parts_(parts) {}

  /// Tokens that KV caches of a moderate size hold, whatever the model.
  static std::int64_t tokens_at_once(const ModelParts& parts);

  /// The rows that are wanted go into `kept` [rows, hidden], before the final norm; returns which they are, for every
  /// branch. Tokens are in the vocabulary.
  std::vector<std::vector<std::int64_t>> run(std::span<const SequenceFamily> families, std::vector<float>& kept);

 private:
  struct Placed;
  struct KeptRun;
  std::vector<Placed> place(std::span<const SequenceFamily> families);
  void make_lanes(std::int64_t tokens, std::int64_t count);
  void run_stems(std::span<const Placed> placed);
  void run_branches(std::span<const Placed> placed, std::int64_t wave);
  void run_and_keep(std::span<const KeptRun> runs);

  const ModelParts& parts_;
  std::vector<std::unique_ptr<Sequence>> sequences_;
  std::int64_t capacity_ = 0;
  std::vector<float>* kept_ = nullptr;  // of the call under way
  std::vector<std::vector<std::int64_t>> rows_;
};

}  // namespace pq::runtime
