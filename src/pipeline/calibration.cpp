#include "pipeline/calibration.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "base/random.h"
#include "io/content_hash.h"
#include "model/token_range.h"
#include "text/documents.h"

namespace pq::quant {
namespace {

CalibrationSet joined_windows(const std::vector<std::vector<std::int32_t>>& documents, SequenceShape shape,
                              std::int32_t separator, Random& random, std::string_view where) {
  std::vector<std::size_t> order(documents.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  random.shuffle(order);
  std::vector<std::int32_t> joined;
  for (const std::size_t index : order) {
    if (documents[index].empty()) continue;
    if (!joined.empty() && separator >= 0) joined.push_back(separator);
    joined.insert(joined.end(), documents[index].begin(), documents[index].end());
  }
  const auto total = static_cast<std::int64_t>(joined.size());
  if (total < 2) {
    throw InputError(where, "holds no text to calibrate on", "give a longer text, or --calibration self");
  }
  const std::int64_t length = std::min(shape.length, total);
  const std::int64_t windows = total / length;
  std::vector<std::int64_t> chosen(static_cast<std::size_t>(windows));
  std::iota(chosen.begin(), chosen.end(), std::int64_t{0});
  random.shuffle(chosen);
  if (windows < shape.samples) {
    log_warning("{}: {} tokens give {} sequences of {} where {} of {} were asked; all of them are used", where, total,
                windows, length, shape.samples, shape.length);
  } else {
    chosen.resize(static_cast<std::size_t>(shape.samples));
  }
  CalibrationSet set;
  for (const std::int64_t window : chosen) {
    const auto begin = joined.begin() + window * length;
    set.sequences.emplace_back(begin, begin + length);
  }
  return set;
}

}  // namespace

SequenceShape fit_to_context(std::int64_t samples, std::int64_t length, std::int64_t max_positions) {
  if (length <= max_positions) return {samples, length};
  return {(samples * length + max_positions - 1) / max_positions, max_positions};
}

SequenceShape search_shape(const Recipe& recipe, std::int64_t max_positions) {
  const SearchSettings& search = recipe.search;
  if (search.gptq_samples == 0) return fit_to_context(search.samples, search.length, max_positions);
  return fit_to_context(search.gptq_samples, search.gptq_length, max_positions);
}

std::int64_t search_sequences(const Recipe& recipe, const CalibrationSet& drawn) {
  const SearchSettings& search = recipe.search;
  if (search.gptq_samples == 0 || drawn.length() == 0) return drawn.samples();
  return std::min(drawn.samples(), (search.samples * search.length + drawn.length() - 1) / drawn.length());
}

SequenceShape tuning_shape(const Recipe& recipe, std::int64_t max_positions) {
  const FinetuneSettings& settings = recipe.finetune;
  if (!settings.enabled()) return {};
  return fit_to_context(settings.samples + settings.validation, settings.length, max_positions);
}

void split_tuning_sequences(CalibrationSet drawn, const Recipe& recipe, CalibrationData& data) {
  const FinetuneSettings& settings = recipe.finetune;
  const std::int64_t count = drawn.samples();
  std::int64_t held_back = count * settings.validation / (settings.samples + settings.validation);
  if (settings.validation > 0) held_back = std::clamp<std::int64_t>(held_back, 1, std::max<std::int64_t>(1, count - 1));
  const auto first = drawn.sequences.end() - std::min(held_back, count - 1);
  data.validation.sequences.assign(std::make_move_iterator(first), std::make_move_iterator(drawn.sequences.end()));
  drawn.sequences.erase(first, drawn.sequences.end());
  data.tuning = std::move(drawn);
}

CalibrationData behind_prefix(CalibrationData data, const std::vector<std::int32_t>& prefix_ids) {
  if (prefix_ids.empty()) return data;
  for (CalibrationSet* set : {&data.detection, &data.search, &data.tuning, &data.validation}) {
    const bool repeated =
        set->length() > 1 && std::all_of(set->sequences.begin(), set->sequences.end(),
                                         [&](const auto& ids) { return ids.front() == prefix_ids.back(); });
    if (!repeated) continue;
    for (auto& sequence : set->sequences) sequence.erase(sequence.begin());
  }
  return data;
}

namespace {

/// Says so where a text says the same few tokens over and over, so that nothing found on it holds for other text.
void warn_of_poor_text(const CalibrationSet& set, std::string_view where) {
  constexpr std::size_t few = 32;
  std::set<std::int32_t> ids;
  std::size_t total = 0;
  for (const auto& sequence : set.sequences) {
    ids.insert(sequence.begin(), sequence.end());
    total += sequence.size();
  }
  if (ids.size() >= few || total < 4 * ids.size()) return;
  log_warning(
      "{}: the calibration sequences have only {} different tokens: scales found on them say little about other text",
      where, ids.size());
}

}  // namespace

CalibrationSet draw_sequences(const std::vector<std::vector<std::int32_t>>& documents, SequenceShape shape,
                              std::int32_t separator, std::uint64_t seed, std::string_view stream,
                              std::string_view where) {
  Random random(seed, stream);
  std::vector<const std::vector<std::int32_t>*> long_enough;
  for (const auto& document : documents) {
    if (static_cast<std::int64_t>(document.size()) >= shape.length + 1) long_enough.push_back(&document);
  }
  if (static_cast<std::int64_t>(long_enough.size()) < shape.samples) {
    return joined_windows(documents, shape, separator, random, where);
  }
  random.shuffle(long_enough);
  long_enough.resize(static_cast<std::size_t>(shape.samples));
  CalibrationSet set;
  for (const auto* document : long_enough) {
    const auto room = static_cast<std::uint64_t>(static_cast<std::int64_t>(document->size()) - shape.length + 1);
    const auto begin = document->begin() + static_cast<std::int64_t>(random.below(room));
    set.sequences.emplace_back(begin, begin + shape.length);
  }
  return set;
}

CalibrationData calibration_from_file(const std::filesystem::path& path, const Tokenizer& tokenizer,
                                      const ModelSpec& spec, const Recipe& recipe) {
  const std::vector<std::string> documents = read_documents(path);
  std::vector<std::vector<std::int32_t>> tokens(documents.size());
  parallel_for(documents.size(), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t i = begin; i < end; ++i) tokens[i] = tokenizer.encode(documents[i], false);
  });
  const auto separator = tokenizer.eos_id();
  const std::int32_t eos = separator ? *separator : -1;
  const SequenceShape detection =
      fit_to_context(recipe.calibration.samples, recipe.calibration.length, spec.max_positions);
  const SequenceShape search = search_shape(recipe, spec.max_positions);
  CalibrationData data;
  data.source = path.filename().string();
  io::ContentHasher hasher;
  for (const std::string& document : documents) hasher.add_text(document);
  data.text_hash = hasher.digits();
  data.detection = draw_sequences(tokens, detection, eos, recipe.seed, "calibration", path.string());
  data.search = draw_sequences(tokens, search, eos, recipe.seed, "grid search", path.string());
  warn_of_poor_text(data.search, path.string());
  if (recipe.finetune.enabled()) {
    const SequenceShape shape = tuning_shape(recipe, spec.max_positions);
    split_tuning_sequences(draw_sequences(tokens, shape, eos, recipe.seed, "fine-tuning", path.string()), recipe, data);
  }
  for (const CalibrationSet* set : {&data.detection, &data.search, &data.tuning, &data.validation}) {
    for (const auto& sequence : set->sequences) {
      for (const std::int32_t id : sequence) {
        if (!in_vocabulary(id, spec)) {
          throw FormatError("tokenizer.json",
                            fmt::format("gives token {} where the model has {} embeddings", id, spec.vocab_size),
                            "tokenizer and model do not belong together");
        }
      }
    }
  }
  return data;
}

std::int32_t start_token(const Tokenizer& tokenizer, const ModelSpec& spec) {
  if (const auto bos = tokenizer.bos_id()) return *bos;
  if (const auto id = tokenizer.id_of("<|endoftext|>")) return *id;
  if (spec.bos_token_id) return static_cast<std::int32_t>(*spec.bos_token_id);
  if (const auto eos = tokenizer.eos_id()) return *eos;
  if (!spec.eos_token_ids.empty()) return static_cast<std::int32_t>(spec.eos_token_ids.front());
  throw InputError("tokenizer_config.json", "names neither a BOS nor an EOS token",
                   "add bos_token, or give the prefix with --prefix ids:...");
}

}  // namespace pq::quant
