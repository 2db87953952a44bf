#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

// What `pq analyze` finds out about a model, as plain values: pipeline/model_analysis fills it, the page and the JSON
// are made of it.

namespace pq::report {

/// The tensors of a block whose token-wise maxima M_i = max_c |X_ic| are kept, as the linear layers and the KV cache
/// read them: behind whatever a rotation does online.
enum class Watched { qkv_input, o_input, gate_up_input, down_input, block_output, query, key, value };

struct WatchedRow {
  Watched id;
  std::string_view key;    ///< in JSON: "down_input"
  std::string_view name;   ///< for people: "input of down_proj"
  bool lower;              ///< it is the small tokens that matter: median/least is what is marked (figures 10, 12, ..)
  std::string_view paper;  ///< the paper's figures of this tensor
};
inline constexpr std::array watched_rows{
    WatchedRow{Watched::qkv_input, "qkv_input", "input of q, k and v_proj", false, "figures 9, 11, 13, 15, 17, 19"},
    WatchedRow{Watched::o_input, "o_input", "input of o_proj", false, "figures 9, 11, 13, 15, 17, 19"},
    WatchedRow{Watched::gate_up_input, "gate_up_input", "input of gate and up_proj", false,
               "figures 9, 11, 13, 15, 17, 19"},
    WatchedRow{Watched::down_input, "down_input", "input of down_proj", false, "figures 3 (I), 9, 11, 13, 15, 17, 19"},
    WatchedRow{Watched::block_output, "block_output", "output of the block", false, "figure 3 (II)"},
    WatchedRow{Watched::query, "query", "Q", true, "figures 10, 12, 14, 16, 18, 20"},
    WatchedRow{Watched::key, "key", "K", true, "figures 3 (III), 10, 12, 14, 16, 18, 20"},
    WatchedRow{Watched::value, "value", "V", true, "figures 10, 12, 14, 16, 18, 20"}};

/// One value for each watched tensor.
template <typename T>
class PerWatched {
 public:
  T& operator[](Watched id) { return values_[static_cast<std::size_t>(id)]; }
  const T& operator[](Watched id) const { return values_[static_cast<std::size_t>(id)]; }

 private:
  std::array<T, watched_rows.size()> values_{};
};

/// A token of the calibration text, or of the prefix.
struct TokenPlace {
  std::int64_t sequence = 0;
  std::int64_t position = 0;  ///< as the model sees it: the prefix counted
  std::int32_t id = -1;       ///< -1: none
  std::string text{};         ///< as the tokenizer shows it; nobody vouches for it
};

/// Token-wise maxima of one tensor in one block, over all sequences. Ratios are taken within a sequence.
struct TokenMaxima {
  std::array<double, 3> top{};    ///< the largest of all sequences' largest, second and third largest maximum
  double median = 0;              ///< mean of the sequences' medians
  std::array<double, 3> least{};  ///< the smallest of all sequences' smallest, second and third smallest maximum
  double top_ratio = 0;           ///< largest top-1 / median of a sequence
  double least_ratio = 0;         ///< largest median / least-1 of a sequence; where that is zero, of its others
  double upper_per_sequence = 0;  ///< upper outlier tokens a sequence
  double lower_per_sequence = 0;  ///< lower outlier tokens a sequence
  TokenPlace top_token{};         ///< where top_ratio was found
  TokenPlace least_token{};       ///< where least_ratio was found
};

/// Error of a block's output with its linear inputs quantized (4 bits, a scale a token, weights and KV cache as they
/// are), and how much of the squared error a sequence's worst tokens carry (figure 1).
struct ErrorShare {
  double mean_squared_error = 0;
  double relative_error = 0;                 ///< squared error over the squared output
  std::array<double, 3> worst_share{};       ///< carried by the worst, the worst two and the worst three tokens
  std::array<TokenPlace, 3> worst_tokens{};  ///< of the first sequence
};

/// Magnitudes of down_proj's input in the first sequence (figure 2), neighbouring channels pooled by their largest.
struct MagnitudeMap {
  std::int64_t tokens = 0;
  std::int64_t columns = 0;
  std::int64_t channels_in_column = 1;
  std::vector<float> magnitudes{};  ///< [tokens x columns], row by row
};

struct BlockAnalysis {
  PerWatched<TokenMaxima> maxima;
  ErrorShare error;
  std::optional<MagnitudeMap> magnitudes;  ///< of the blocks that are drawn
};

struct TokenCount {
  std::int32_t id = 0;
  std::string text{};
  std::int64_t count = 0;     ///< over all sequences and blocks
  double sequence_share = 0;  ///< share of the sequences in which it was one
};

/// Upper outlier tokens at the input of down_proj, before what a rotation does there: those that the prefix is chosen
/// by.
struct OutlierTokens {
  std::vector<double> per_sequence;    ///< a block
  std::int64_t most_per_sequence = 0;  ///< the largest of them, rounded up: the paper's o
  std::vector<TokenCount> tokens;      ///< at any position of the text but the very first of the model's, by count
  std::vector<std::int64_t> position_counts;  ///< over sequences and blocks; the prefix counted, trailing zeros cut
};

struct ConditionAnalysis {
  std::string key;   ///< "original", "rotated" or "prefixed"
  std::string name;  ///< for people: "rotated, behind the prefix"
  std::vector<BlockAnalysis> blocks{};
  std::optional<OutlierTokens> outliers{};   ///< none where they are the same tokens as in the condition before
  std::vector<TokenPlace> first_sequence{};  ///< its tokens, the prefix not among them
};

/// Text that the model wrote behind the prefix, and the upper outlier tokens at the input of down_proj in it.
struct GeneratedOutliers {
  std::int64_t sequences = 0;
  std::int64_t tokens = 0;    ///< generated, in all
  std::int64_t outliers = 0;  ///< of these, in one block at least
  double top_ratio = 0;       ///< largest maximum over the median of its sequence
  std::vector<TokenCount> by_token;
};

struct ModelAnalysis {
  std::string model;
  std::string calibration;
  std::int64_t sequences = 0;
  std::int64_t length = 0;  ///< tokens a sequence
  double upper_threshold = 0;
  double lower_threshold = 0;
  std::int64_t error_sequences = 0;  ///< the first ones, on which errors and attention are measured
  std::string prefix_setting;        ///< "auto", or what the user asked for
  std::vector<TokenPlace> prefix;
  std::vector<ConditionAnalysis> conditions;
  std::vector<std::vector<double>>
      prefix_attention;  ///< [block][head]: share of the probability; none without a prefix
  std::optional<GeneratedOutliers> generated;
  std::string generated_note;    ///< why there is none
  std::int64_t first_drawn = 0;  ///< blocks whose own figures are drawn
  std::int64_t last_drawn = 0;
  double seconds = 0;
};

/// As docs/json.md lists it. The magnitude maps stay out.
Json to_json(const ModelAnalysis& analysis);

/// The largest ratio of a tensor over the blocks of a condition, and the block it was found in.
struct LargestRatio {
  double ratio = 0;
  std::int64_t block = 0;
};
LargestRatio largest_top_ratio(const ConditionAnalysis& condition, Watched tensor);
LargestRatio largest_least_ratio(const ConditionAnalysis& condition, Watched tensor);

/// "condition" of that key; null without one.
const ConditionAnalysis* find_condition(const ModelAnalysis& analysis, std::string_view key);

}  // namespace pq::report
