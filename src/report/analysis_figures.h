#pragma once

#include <vector>

#include "report/analysis.h"
#include "report/figure.h"

// The figures of `pq analyze`, each made of an analysis alone. Their captions name the paper's figures.

namespace pq::report {

/// Top-1 to least-3 over the blocks (figures 3, 9 to 20); one axis for all conditions.
Figure maxima_figure(const ModelAnalysis& analysis, const ConditionAnalysis& condition, const WatchedRow& tensor);

/// Outlier tokens a sequence, block by block (figure 4a).
Figure outlier_count_figure(const ModelAnalysis& analysis);
/// Which tokens they are (figures 4b and 8). Needs one.
Figure outlier_token_figure(const OutlierTokens& outliers);
/// Where they stand, without and behind the prefix (figures 4c and 4d). Needs one.
Figure outlier_position_figure(const ModelAnalysis& analysis);

/// Share of the squared error of a block's output that the worst one and two tokens of a sequence carry (figure 1).
Figure error_share_figure(const ModelAnalysis& analysis);
/// The error itself.
Figure error_figure(const ModelAnalysis& analysis);
/// One block's error, by its worst tokens.
Figure block_error_figure(const ModelAnalysis& analysis, std::int64_t block);

/// Token x channel at down_proj's input (figure 2); one scale for all conditions. The block must be a drawn one.
Figure magnitude_figure(const ModelAnalysis& analysis, const ConditionAnalysis& condition, std::int64_t block);

/// Block x head. Needs a prefix.
Figure prefix_attention_figure(const ModelAnalysis& analysis);

/// "a top-1 of 2310 times the median": how ratios are written.
std::string times(double ratio);

}  // namespace pq::report
