#pragma once

#include <string>
#include <vector>

#include "lab/compare_rows.h"

namespace pq::lab {

/// Tokens a second of recipes, as `pq bench --json` wrote them.
struct BenchSpeeds {
  struct Speed {
    std::string recipe;  ///< a recipe's name, or the type of an unquantized model's weights
    double tokens_per_second = 0;
    double spread = 0;  ///< largest less smallest, over the median
  };
  std::string test;  ///< "tg128": the first that generates, else the first
  std::vector<Speed> speeds;
};
/// Throws what reading throws, and FormatError for a file that is not of `pq bench --json`.
BenchSpeeds read_bench_speeds(const std::string& path);
/// Gives every row that is a whole recipe its speed. Throws InputError where the file has none of them.
void add_speeds(std::vector<ComparedRow>& rows, const BenchSpeeds& speeds, const std::string& path);

}  // namespace pq::lab
