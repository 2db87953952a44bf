#pragma once

#include <ATen/ATen.h>

#include <functional>
#include <string>

#include "model/recipe.h"
#include "nn/block.h"
#include "quant/block_start.h"
#include "tuning/parameter.h"

namespace pq::quant {

using SiteQuantizers = PerSite<SiteQuantizer>;

/// A block's activation, K and V quantizers with gradients: static scales and zero points, or dynamic clip factors.
class TunableSites {
 public:
  /// `leaf(name, kind, value)` turns each start value, float32 on `options`' device, into the tensor that is used: a
  /// parameter to tune, or the value itself.
  using MakeLeaf = std::function<at::Tensor(std::string name, ParameterKind kind, const at::Tensor& value)>;
  TunableSites(const SiteQuantizers& start, const PerSite<QuantizerFormat>& formats, const at::TensorOptions& options,
               const MakeLeaf& leaf);

  /// Applies them; borrows this object. Empty when nothing is quantized.
  nn::Tap tap() const;
  /// As a checkpoint holds them: zero points rounded.
  SiteQuantizers values() const;

 private:
  struct Parameters {
    at::Tensor scale;       // [1] or [kv_heads]; static formats
    at::Tensor zero_point;  // the same; asymmetric static formats
    at::Tensor gamma;       // [1]; dynamic formats
    at::Tensor beta;        // [1]; asymmetric dynamic formats
  };
  at::Tensor apply(Site site, const at::Tensor& x) const;
  at::Tensor apply_dynamic(Site site, const QuantizerFormat& format, const Parameters& parameters,
                           const at::Tensor& x) const;

  PerSite<QuantizerFormat> formats_;
  PerSite<Parameters> sites_;
};

}  // namespace pq::quant
