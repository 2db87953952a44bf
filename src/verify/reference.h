#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/block_formats.h"
#include "runtime/model.h"
#include "runtime/model_source.h"
#include "verify/matrix.h"

namespace pq::runtime {

/// The model's arithmetic once more, plainly, in float64 over numerics: what `pq verify` holds the kernels to. Weights
/// are decoded row by row from the files, quantizers are those of numerics/quantize.h on float32 inputs.

/// A linear layer whose rows are decoded when they are needed.
struct ReferenceLinear {
  const io::TensorView* weight;      ///< packed codes, or floating-point
  const QuantizedLinear* quantized;  ///< scales, zero points, bias
  LinearShape shape;
  QuantizerFormat format;
  bool rows_to_8_bits = false;  ///< lm_head_bits 8

  /// Row `channel` [in].
  void decode(std::int64_t channel, std::span<double> out) const;
};
/// `id` of a block of these formats.
ReferenceLinear reference_linear(const BlockSource& source, const ModelSpec& spec, const BlockFormats& formats,
                                 LinearId id);

/// y [rows, out] = x * W^T + b; where `magnitude` is given it gets the sums of the absolute values of all that is
/// added.
Matrix multiply(const ReferenceLinear& linear, const Matrix& x, Matrix* magnitude = nullptr);
/// x itself where `gamma` is empty: the model has no norm there.
Matrix rms_norm(const Matrix& x, std::span<const float> gamma, double eps);
/// The rotary embedding of block `index` on rows of heads; row i stands at first_position + i.
void apply_rope(Matrix& x, const ModelSpec& spec, std::int64_t index, std::int64_t first_position);

/// Takes K's mean [kv_heads, head_dim] out of every row; nothing where it is empty.
void take_mean(Matrix& key, std::span<const float> mean);

/// What a site's quantizer makes of float32 rows.
struct SiteCodes {
  std::vector<std::int32_t> codes;  ///< [rows, columns], as the checkpoint has them; empty without a quantizer
  std::vector<std::int32_t> steps;  ///< the same less their zero points: how many scales a value is
  Matrix values;                    ///< what they stand for
};
/// Of each site of a block the steps that another arithmetic chose; empty: of a site without a quantizer.
using Decisions = PerSite<std::vector<std::int32_t>>;
/// How far a value may stand from the border between two steps, in steps, and still be given the one of the other side
/// by another arithmetic. A rounding to binary16 moves the largest of 8 bits' values as far.
inline constexpr double border_width = 1.0 / 8;

/// Linear inputs, or K and V rows [tokens, kv_heads * head_dim]. All rows share a dynamic per-tensor scale. Where a
/// value stands on a border, the step that `chosen` has for it is taken.
SiteCodes quantize_site(Site site, const QuantizerFormat& format, const SiteQuantizer& parameters,
                        std::int64_t head_dim, const Matrix& x, std::span<const std::int32_t> chosen = {});

/// Causal attention of the last query.rows tokens of key.rows, behind prefix K and V; query [tokens, heads * head_dim],
/// key and value [tokens, kv_heads * head_dim], prefixes [prefix, kv_heads * head_dim].
Matrix attend(const ModelSpec& spec, std::int64_t window, const Matrix& query, const Matrix& key, const Matrix& value,
              const Matrix& prefix_key, const Matrix& prefix_value);
/// K and V of the prefix in one block, [prefix, kv_heads * head_dim].
Matrix prefix_rows(const ModelSource& source, std::int64_t block, bool key);
/// activation(gate) * up
Matrix gated_product(Activation activation, const Matrix& gate, const Matrix& up);
/// Rows of heads through a norm of each head, or of all together, as `gamma` is long; unchanged where it is empty.
Matrix normed_heads(const Matrix& x, std::span<const float> gamma, double eps);

/// The embedding rows of `tokens`.
Matrix embed(const ModelSource& source, const ModelOptions& options, std::span<const std::int32_t> tokens);
/// One block over a whole sequence that stands behind the prefix: residual stream in, residual stream out. On borders
/// its quantizers decide as `chosen` does.
Matrix reference_block(const ModelSource& source, const BlockSource& block, std::int64_t index,
                       const ModelOptions& options, const Matrix& residual, const Decisions& chosen = {});
/// [tokens, vocab]
Matrix reference_logits(const ModelSource& source, const ModelOptions& options, const Matrix& residual);

}  // namespace pq::runtime
