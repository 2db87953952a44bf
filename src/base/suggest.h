#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pq {

/// The candidate nearest to `word` by edit distance, or empty when none is near enough to be a typo.
std::string nearest(std::string_view word, const std::vector<std::string>& candidates);

/// "did you mean 'X'?" for a near candidate, else "one of: a, b, c".
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates);

}  // namespace pq
