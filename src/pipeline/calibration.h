#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "model/recipe.h"
#include "tokenizer/tokenizer.h"

namespace pq::quant {

/// Token sequences of equal length, and where they came from.
struct CalibrationSet {
  std::vector<std::vector<std::int32_t>> sequences;  // [samples][length]
  std::int64_t length() const { return sequences.empty() ? 0 : static_cast<std::int64_t>(sequences.front().size()); }
  std::int64_t samples() const { return static_cast<std::int64_t>(sequences.size()); }
};

/// The sequences for detection and statistics, those for the grid search, and those of the fine-tuning, if any.
struct CalibrationData {
  CalibrationSet detection;
  CalibrationSet search;
  CalibrationSet tuning;
  CalibrationSet validation;  // held back from tuning
  std::string source;
  std::string text_hash;  ///< of the documents that the sequences were drawn from; "self" where the model made them
};

/// How many sequences of which length are drawn.
struct SequenceShape {
  std::int64_t samples = 0;
  std::int64_t length = 0;
};
/// `samples` x `length`, cut to `max_positions` with as many more sequences as keep the number of tokens.
SequenceShape fit_to_context(std::int64_t samples, std::int64_t length, std::int64_t max_positions);

/// Sequences that the search draws: as many as it needs itself, or as GPTQ asks (search.gptq_samples), of which it
/// takes the first ones.
SequenceShape search_shape(const Recipe& recipe, std::int64_t max_positions);
/// How many of those it takes.
std::int64_t search_sequences(const Recipe& recipe, const CalibrationSet& drawn);

/// Sequences that fine-tuning draws together, tuning and validation, fitted to the context. None without fine-tuning.
SequenceShape tuning_shape(const Recipe& recipe, std::int64_t max_positions);
/// Gives the last of `drawn` to validation, as many as the recipe asks; where fewer were to be had, its share of them.
void split_tuning_sequences(CalibrationSet drawn, const Recipe& recipe, CalibrationData& data);

/// The sequences as they stand behind a prefix: where all begin with its last token, which stands there already (a text
/// that the model sampled behind its BOS), without that.
CalibrationData behind_prefix(CalibrationData data, const std::vector<std::int32_t>& prefix_ids);

/// Draws sequences from tokenized documents (ALGORITHM.md section 1): one random crop of each of `samples` random
/// documents of at least length + 1 tokens; where those are too few, all documents are joined in seeded order with
/// `separator` (if >= 0) between them and cut into disjoint windows. Fewer tokens than asked: a warning, and what there
/// is. None: InputError.
CalibrationSet draw_sequences(const std::vector<std::vector<std::int32_t>>& documents, SequenceShape shape,
                              std::int32_t separator, std::uint64_t seed, std::string_view stream,
                              std::string_view where);

/// All sets from a file, as the recipe asks.
CalibrationData calibration_from_file(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                      const ModelSpec& spec, const Recipe& recipe);

/// The id that starts a text: the tokenizer's BOS; without one `<|endoftext|>`, else an EOS. Throws InputError when
/// none exists.
std::int32_t start_token(const Tokenizer& tokenizer, const ModelSpec& spec);

}  // namespace pq::quant
