#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "model/recipe.h"
#include "pipeline/outliers.h"
#include "tokenizer/tokenizer.h"

namespace pq::quant {

/// Whether these settings need an OutlierReport ("auto" and "top1:N" do).
bool needs_outliers(const PrefixSettings& settings);

/// How bad a model is behind these prefix tokens (none of them: without a prefix); lower is better.
using PrefixObjective = std::function<double(const std::vector<std::int32_t>& ids)>;

/// The prefix token ids that the settings ask for (paper, section 4.2, Tables 9 and 10). `report` may be null when
/// needs_outliers() is false. Throws InputError for an id outside the vocabulary or settings that cannot be read.
/// In text, `\n`, `\t` and `\\` are escapes and `[BOS]` stands for the token that starts a text.
/// With an objective, the first k of these ids, for the k of 0 .. all of them that it finds best: the fewest of equals.
/// A score that is not a number loses; where all are none, every id stays.
std::vector<std::int32_t> choose_prefix(const PrefixSettings& settings, const OutlierReport* report,
                                        const Tokenizer& tokenizer, const ModelSpec& spec, std::uint64_t seed,
                                        const PrefixObjective& objective = {});

/// ". \n <s>": the tokens' texts, for people.
std::string prefix_text(const std::vector<std::int32_t>& ids, const Tokenizer& tokenizer);

}  // namespace pq::quant
