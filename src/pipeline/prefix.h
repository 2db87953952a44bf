#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "model/recipe.h"
#include "pipeline/outliers.h"
#include "tokenizer/tokenizer.h"

namespace pq::quant {

/// Whether these settings need an OutlierReport ("auto" and "top1:N" do).
bool needs_outliers(const PrefixSettings& settings);

/// The prefix token ids that the settings ask for (paper, section 4.2, Tables 9 and 10). `report` may be null when
/// needs_outliers() is false. Throws InputError for an id outside the vocabulary or settings that cannot be read.
/// In text, `\n`, `\t` and `\\` are escapes and `[BOS]` stands for the token that starts a text.
std::vector<std::int32_t> choose_prefix(const PrefixSettings& settings, const OutlierReport* report,
                                        const Tokenizer& tokenizer, const ModelSpec& spec, std::uint64_t seed);

/// ". \n <s>": the tokens' texts, for people.
std::string prefix_text(const std::vector<std::int32_t>& ids, const Tokenizer& tokenizer);

}  // namespace pq::quant
