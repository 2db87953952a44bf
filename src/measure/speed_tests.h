#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pq::measure {

/// What is timed on a model: `tokens` of each of `batch` sequences that hold `depth` tokens already.
struct BenchTest {
  enum class Kind {
    prefill,   ///< "pp": all tokens of a sequence at once, then the logits of the last
    generate,  ///< "tg": one token after the other, all sequences together, with lm_head and greedy sampling
  };
  std::string name;  ///< "pp512", "tg128@4096", "tg128x8"
  Kind kind = Kind::prefill;
  std::int64_t tokens = 0;
  std::int64_t batch = 1;
  std::int64_t depth = 0;

  /// Room that a session needs.
  std::int64_t capacity() const { return depth + tokens; }
};

/// Tests by name, without repetitions, in the order given. "paper" stands for two of them. Throws InputError for a name
/// that is no test, or numbers beyond what is allowed.
std::vector<BenchTest> parse_tests(const std::vector<std::string>& names);

std::vector<std::string> default_tests();
std::vector<std::string> quick_tests();

}  // namespace pq::measure
