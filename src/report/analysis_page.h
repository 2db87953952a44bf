#pragma once

#include <string>

#include "report/analysis.h"
#include "report/page.h"

namespace pq::report {

/// What the prefix does to every ratio, in one sentence.
std::string finding_of(const ModelAnalysis& analysis);
/// By which counts the prefix was chosen, in one sentence.
std::string choice_of_prefix(const ModelAnalysis& analysis);
/// The largest ratios of every tensor in every condition.
Table ratio_table(const ModelAnalysis& analysis);

/// The page of `pq analyze`.
Page analysis_page(const ModelAnalysis& analysis);

}  // namespace pq::report
