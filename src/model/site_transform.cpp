#include "model/site_transform.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "base/error.h"

namespace pq {
namespace {

/// The integers that describe a step, beside its name.
struct SizeField {
  const char* key;
  std::int64_t* value;
};
std::vector<SizeField> size_fields(TransformStep& step) {
  if (auto* hadamard = std::get_if<HadamardStep>(&step)) return {{"order", &hadamard->order}};
  if (auto* diagonal = std::get_if<BlockDiagonalStep>(&step)) {
    return {{"block", &diagonal->block}, {"matrices", &diagonal->count}};
  }
  if (auto* kronecker = std::get_if<KroneckerStep>(&step)) {
    return {{"left", &kronecker->left}, {"right", &kronecker->right}};
  }
  return {};
}

const std::array<TransformStep, 5>& known_steps() {
  static const std::array<TransformStep, std::variant_size_v<TransformStep>> steps{
      GatherStep{}, MultiplyStep{}, HadamardStep{}, BlockDiagonalStep{}, KroneckerStep{}};
  return steps;
}

TransformStep step_from_json(const Json& json, const std::string& where) {
  if (!json.is_object() || !json.contains("step") || !json["step"].is_string()) {
    throw FormatError(where, "a step is an object with a string 'step'");
  }
  const auto& name = json["step"].get_ref<const std::string&>();
  const auto known = std::find_if(known_steps().begin(), known_steps().end(),
                                  [&](const TransformStep& step) { return step_name(step) == name; });
  if (known == known_steps().end()) {
    throw UnsupportedError(where, fmt::format("there is no step '{}' here", name),
                           "use the program's version that wrote it");
  }
  TransformStep step = *known;
  const std::vector<SizeField> fields = size_fields(step);
  for (const SizeField& field : fields) {
    if (!json.contains(field.key) || !json[field.key].is_number_integer()) {
      throw FormatError(where, fmt::format("step '{}' has no integer '{}'", name, field.key));
    }
    *field.value = json[field.key].get<std::int64_t>();
  }
  if (json.size() != fields.size() + 1) throw FormatError(where, fmt::format("step '{}' has an unknown field", name));
  return step;
}

}  // namespace

std::optional<std::int64_t> transform_size(const ModelSpec& spec, Site site) {
  switch (site) {
    case Site::qkv_input:
    case Site::gate_up_input:
      return spec.hidden_size;
    case Site::k_cache:
      return spec.head_dim;
    case Site::o_input:
      return spec.query_size();
    case Site::down_input:
      return spec.intermediate_size;
    default:
      return std::nullopt;
  }
}

ResidualRotation residual_rotation(const ModelSpec& spec, ResidualRotation wanted) {
  const bool fusable = spec.norm_placement == NormPlacement::pre;
  if (wanted == ResidualRotation::automatic) return fusable ? ResidualRotation::fused : ResidualRotation::online;
  if (wanted == ResidualRotation::fused && !fusable) {
    throw UnsupportedError("recipe field rotate.r1",
                           fmt::format("cannot be fused into a {} model, whose norms stand behind attention and MLP",
                                       spec.family->model_type),
                           "use --set rotate.r1=online or rotate.r1=none");
  }
  return wanted;
}

SiteTransforms online_rotations(const ModelSpec& spec, const RotationSettings& rotate) {
  SiteTransforms transforms;
  if (residual_rotation(spec, rotate.r1) == ResidualRotation::online) {
    for (const Site site : {Site::qkv_input, Site::gate_up_input}) {
      transforms[site].steps = {HadamardStep{spec.hidden_size}};
    }
  }
  if (rotate.r3) transforms[Site::k_cache].steps = {HadamardStep{spec.head_dim}};
  if (rotate.r4) transforms[Site::down_input].steps = {HadamardStep{spec.intermediate_size}};
  if (rotate.heads) transforms[Site::o_input].steps = {HadamardStep{spec.query_size()}};
  return transforms;
}

std::string_view setting_without_rotation(Site site) {
  if (site == Site::down_input) return "rotate.r4=false";
  if (site == Site::o_input) return "rotate.heads=false";
  return site == Site::k_cache ? "rotate.r3=false" : "rotate.r1=none";
}

void append(SiteTransforms& transforms, const SiteTransforms& more) {
  for (const Site site : quantized_sites) {
    auto& steps = transforms[site].steps;
    steps.insert(steps.end(), more[site].steps.begin(), more[site].steps.end());
  }
}

SiteTransforms without_values(const SiteTransforms& transforms) {
  SiteTransforms plain;
  for (const Site site : quantized_sites) plain[site] = without_values(transforms[site]);
  return plain;
}

void check_site_transforms(const SiteTransforms& transforms, const ModelSpec& spec) {
  for (const Site site : quantized_sites) {
    if (transforms[site].empty()) continue;
    const std::optional<std::int64_t> size = transform_size(spec, site);
    if (!size) {
      throw InputError(site_name(site), "there can be no transform at this site", "make it part of the weights");
    }
    try {
      check_transform_sizes(transforms[site], *size);
    } catch (const InputError& error) {
      throw InputError(site_name(site), error.what());
    }
  }
}

Json site_transforms_to_json(const SiteTransforms& transforms) {
  Json json = Json::object();
  for (const Site site : quantized_sites) {
    if (transforms[site].empty()) continue;
    Json& steps = json[std::string(site_name(site))] = Json::array();
    for (TransformStep step : transforms[site].steps) {
      Json described{{"step", step_name(step)}};
      for (const SizeField& field : size_fields(step)) described[field.key] = *field.value;
      steps.push_back(std::move(described));
    }
  }
  return json;
}

SiteTransforms site_transforms_from_json(const Json& json, const ModelSpec& spec, std::string_view where) {
  if (!json.is_object()) throw FormatError(where, "is not an object of sites");
  SiteTransforms transforms;
  for (const auto& [name, steps] : json.items()) {
    const auto site = std::find_if(quantized_sites.begin(), quantized_sites.end(),
                                   [&name = name](Site known) { return site_name(known) == name; });
    if (site == quantized_sites.end()) throw FormatError(where, fmt::format("there is no site '{}'", name));
    const std::string site_where = fmt::format("{}: {}", where, name);
    if (!steps.is_array() || steps.empty()) throw FormatError(site_where, "is not a list of steps");
    for (const Json& step : steps) transforms[*site].steps.push_back(step_from_json(step, site_where));
  }
  try {
    check_site_transforms(transforms, spec);
  } catch (const InputError& error) {
    throw FormatError(where, error.what());
  }
  return transforms;
}

}  // namespace pq
