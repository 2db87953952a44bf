#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "model/model_spec.h"

namespace pq {

/// Sequences that begin alike: each is the stem and a branch behind it.
struct SequenceFamily {
  struct Branch {
    std::vector<std::int32_t> tokens;  ///< may be empty
    std::int64_t wanted;  ///< logits are asked for behind the last so many tokens, those of the stem among them
  };
  std::vector<std::int32_t> stem;  ///< not empty
  std::vector<Branch> branches;    ///< 1 or more

  std::int64_t longest() const;  ///< tokens of stem and longest branch
  std::int64_t tokens() const;   ///< of the stem and all branches
};

/// A part of the logits behind some rows of a run.
struct LogitTile {
  std::int64_t first_row;  ///< counts the rows that were asked for
  std::int64_t rows;
  std::int64_t first_id;  ///< of the vocabulary
  std::int64_t ids;
  const float* values;  ///< [rows][stride], of which `ids` are there
  std::int64_t stride;
};

/// What the evaluation harness needs of a model. One instance is used by one thread at a time.
class LanguageModel {
 public:
  LanguageModel() = default;
  virtual ~LanguageModel() = default;
  LanguageModel(const LanguageModel&) = delete;
  LanguageModel& operator=(const LanguageModel&) = delete;

  virtual const ModelSpec& spec() const = 0;
  /// Tokens of the fixed prefix that stands in front of every sequence; 0 without one.
  virtual std::int64_t prefix_length() const = 0;

  /// Runs `sequences` sequences of equal length, concatenated in `tokens`, each behind the prefix. Keeps what logits()
  /// needs until the next call. Throws InputError for a token outside the vocabulary.
  virtual void run(std::span<const std::int32_t> tokens, std::int64_t sequences) = 0;

  /// Logits that follow the tokens first .. first+count-1 of the last run (counted over all its sequences), as float32
  /// [count, vocab_size], row-major, into `out`.
  virtual void logits(std::int64_t first, std::int64_t count, std::span<float> out) = 0;

  /// Whether run_families computes a stem once. Elsewhere it is computed for every branch, and sequences are filled up
  /// to equal length.
  virtual bool shares_stems() const { return false; }
  /// Tokens that one call of run_families had better be given: the sum over its families of longest().
  virtual std::int64_t family_tokens() const { return 4096; }
  /// Runs every sequence of the families, each behind the prefix. Every sequence gets the values that running it alone
  /// gives, within float rounding (a dynamic per-tensor activation scale is that of whatever runs at once: give such a
  /// model one family of one branch). Returns for each branch, in order of families and their branches, the rows behind
  /// its last `wanted` tokens, as logits() and logit_tiles() count. Throws as run().
  virtual std::vector<std::vector<std::int64_t>> run_families(std::span<const SequenceFamily> families);

  /// Logits behind any rows of the last run, a tile at a time: so many ids of the vocabulary (the last tiles fewer), of
  /// so many rows that never all rows' logits need memory. `visit` sees every row and id once, from several threads at
  /// once; every tile of a model begins at a multiple of tile_ids, whatever the number of threads.
  virtual void logit_tiles(std::span<const std::int64_t> rows, const std::function<void(const LogitTile&)>& visit);
  static constexpr std::int64_t tile_ids = 512;
};

}  // namespace pq
