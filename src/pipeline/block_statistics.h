#pragma once

#include <ATen/ATen.h>

#include <cstdint>
#include <optional>

#include "nn/block.h"
#include "pipeline/calibration.h"
#include "pipeline/outliers.h"
#include "report/analysis.h"

namespace pq::quant {

/// Adds up the token-wise maxima of one tensor over the sequences.
class MaximaSum {
 public:
  /// Maxima [batch, tokens], finite, of the sequences `first` and on; three tokens at least.
  void add(const at::Tensor& maxima, const PrefixSettings& settings, std::int64_t first);
  /// Places hold sequence and index of the token; ids and texts are the caller's to fill in.
  report::TokenMaxima result() const;

 private:
  report::TokenMaxima sum_;  // means not divided yet
  std::int64_t sequences_ = 0;
};

/// What is watched while sequences go through one block in one condition.
class BlockStatistics {
 public:
  /// `context` and `settings` are borrowed. `where` names condition and block in errors.
  BlockStatistics(const nn::BlockContext& context, const PrefixSettings& settings, std::string where)
      : context_(context), settings_(settings), where_(std::move(where)) {}

  /// `detection`, if not null, gets the maxima that it counts outliers in.
  void detect_with(OutlierDetection* detection) { detection_ = detection; }
  /// Keeps the magnitudes of down_proj's input in the first sequence, channels pooled to at most `columns`.
  void keep_magnitudes(std::int64_t columns) { columns_ = columns; }
  /// The prefix's own maxima [1, tokens] at down_product, for `detection`.
  void set_prefix_maxima(at::Tensor maxima) { prefix_maxima_ = std::move(maxima); }

  /// Watches the sequences `first` and on. Throws InputError where a tensor holds what is not finite.
  nn::Tap tap(std::int64_t first);
  /// Q of the sequences that went by last, as scores are computed of it: [batch, tokens, heads, head_dim]; and K.
  const at::Tensor& query() const { return query_; }
  const at::Tensor& key() const { return key_; }

  void move_to(report::BlockAnalysis& block) const;

 private:
  at::Tensor maxima(std::string_view name, const at::Tensor& x) const;
  void watch(report::Watched tensor, const at::Tensor& maxima, std::int64_t first);
  void see(Site site, const at::Tensor& x, std::int64_t first);
  void keep(const at::Tensor& x);

  const nn::BlockContext& context_;
  const PrefixSettings& settings_;
  std::string where_;
  OutlierDetection* detection_ = nullptr;
  std::int64_t columns_ = 0;
  report::PerWatched<MaximaSum> sums_;
  std::optional<report::MagnitudeMap> magnitudes_;
  at::Tensor prefix_maxima_, product_maxima_, query_, key_;
};

/// x [tokens, channels] -> the largest magnitudes of runs of neighbouring channels, at most `columns` of them.
report::MagnitudeMap pooled_magnitudes(const at::Tensor& x, std::int64_t columns);

/// The quantizer whose error is shown: symmetric, a scale a token (paper, figures 1 and 2).
inline constexpr int error_bits = 4;

/// Adds up the error that quantizing its linear inputs makes at a block's output.
class ErrorSum {
 public:
  /// Sequences x [batch, tokens, hidden], the first ones of the set at first, and what the block makes of them. Runs
  /// the block once more, inputs quantized.
  void add(const nn::Block& block, const nn::BlockContext& context, const at::Tensor& x, const at::Tensor& output);
  /// Places as in MaximaSum.
  report::ErrorShare result() const;

 private:
  report::ErrorShare sum_;  // not divided yet
  double squared_error_ = 0;
  double squared_output_ = 0;
  std::int64_t values_ = 0;
};

/// Adds up the attention that is paid to the prefix.
class PrefixAttention {
 public:
  /// q and k [batch, tokens, (kv_)heads, head_dim] behind `context`'s prefix, as scores are computed of them.
  void add(const nn::BlockContext& context, const at::Tensor& q, const at::Tensor& k);
  /// For every head the mean over queries of the probability that the prefix's tokens get together.
  std::vector<double> result() const;

 private:
  at::Tensor sum_;  // [heads] float64
  std::int64_t queries_ = 0;
};

}  // namespace pq::quant
