#pragma once

#include <cstdint>
#include <span>

#include "model/model_spec.h"

namespace pq {

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
};

}  // namespace pq
