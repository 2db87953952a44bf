#include "tuning/tunable_sites.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "tuning/fake_quantize.h"

namespace pq::quant {
namespace {

at::Tensor zero_points_of(const SiteQuantizer& site, const at::TensorOptions& options) {
  const std::vector<float> values(site.zero_point.begin(), site.zero_point.end());
  return from_floats(values, {static_cast<std::int64_t>(values.size())}, options);
}

}  // namespace

TunableSites::TunableSites(const SiteQuantizers& start, const PerSite<QuantizerFormat>& formats,
                           const at::TensorOptions& options, const MakeLeaf& leaf)
    : formats_(formats) {
  const auto floats = options.dtype(at::kFloat);
  for (const Site id : quantized_sites) {
    const QuantizerFormat& format = formats_[id];
    if (!format.enabled()) continue;
    const SiteQuantizer& site = start[id];
    const std::string name(site_name(id));
    if (format.is_static()) {
      const auto count = static_cast<std::int64_t>(site.scale.size());
      sites_[id].scale = leaf(name + ".scale", ParameterKind::site_scale, from_floats(site.scale, {count}, floats));
      if (!format.symmetric)
        sites_[id].zero_point =
            leaf(name + ".zero_point", ParameterKind::site_zero_point, zero_points_of(site, floats));
    } else {
      sites_[id].gamma = leaf(name + ".gamma", ParameterKind::site_clip, at::full({1}, site.clip[0], floats));
      if (!format.symmetric)
        sites_[id].beta = leaf(name + ".beta", ParameterKind::site_clip, at::full({1}, site.clip[1], floats));
    }
  }
}

at::Tensor TunableSites::apply_dynamic(Site site, const QuantizerFormat& format, const Parameters& parameters,
                                       const at::Tensor& x) const {
  const auto slices_of = [&](const at::Tensor& part, std::int64_t inner) {
    return fake_quantize_dynamic_tunable(part, {1, part.numel() / inner, inner}, parameters.gamma, parameters.beta,
                                         format);
  };
  const std::int64_t columns = x.size(-1);
  switch (format.granularity) {
    case Granularity::tensor:
      return slices_of(x, x.dim() > 2 ? x.numel() / x.size(0) : x.numel());  // a sequence has one scale
    case Granularity::group: {
      const std::int64_t group = std::min(format.group, columns);
      const std::int64_t whole = columns / group * group;
      if (whole == columns) return slices_of(x, group);
      return at::cat(
          {slices_of(x.narrow(-1, 0, whole), group), slices_of(x.narrow(-1, whole, columns - whole), columns - whole)},
          -1);
    }
    default:
      return slices_of(x, is_kv(site) ? x.size(-2) * columns : columns);
  }
}

at::Tensor TunableSites::apply(Site site, const at::Tensor& x) const {
  const Parameters* parameters = sites_.find(site);
  if (parameters == nullptr || !formats_[site].enabled()) return x;
  const QuantizerFormat& format = formats_[site];
  if (!format.is_static()) return apply_dynamic(site, format, *parameters, x);
  const SliceLayout layout =
      is_kv(site) ? SliceLayout{x.size(0) * x.size(1), x.size(2), x.size(3)} : SliceLayout{1, 1, x.numel()};
  return fake_quantize_tunable(x, layout, parameters->scale, parameters->zero_point, format, x.scalar_type());
}

nn::Tap TunableSites::tap() const {
  const auto quantizes = [](const QuantizerFormat& format) { return format.enabled(); };
  if (std::none_of(formats_.begin(), formats_.end(), quantizes)) return {};
  return [this](Site site, const at::Tensor& x) { return apply(site, x); };
}

SiteQuantizers TunableSites::values() const {
  SiteQuantizers result;
  for (const Site id : quantized_sites) {
    const Parameters& site = sites_[id];
    if (site.scale.defined()) {
      const at::Tensor zero = site.zero_point.defined() ? site.zero_point.detach().round() : at::Tensor();
      result[id] = static_site_quantizer({site.scale.detach(), zero});
    } else if (site.gamma.defined()) {
      const float gamma = site.gamma.item<float>();
      result[id].clip = {gamma, site.beta.defined() ? site.beta.item<float>() : gamma};
    }
  }
  return result;
}

}  // namespace pq::quant
