#include "model/model_spec.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "base/error.h"

namespace pq {

std::int64_t ModelSpec::largest_window() const {
  std::int64_t largest = 0;
  for (const BlockSpec& kind : block_pattern) largest = std::max(largest, kind.window);
  return largest;
}

bool ModelSpec::operator==(const ModelSpec& other) const {
  const auto& fields = model_spec_fields();
  return std::all_of(fields.begin(), fields.end(),
                     [&](const ModelSpecField& field) { return field.get(*this) == field.get(other); });
}

Json model_spec_to_json(const ModelSpec& spec) {
  Json json = Json::object();
  for (const ModelSpecField& field : model_spec_fields()) json[std::string(field.key)] = field.get(spec);
  return json;
}

ModelSpec model_spec_from_json(const Json& json, std::string_view where) {
  constexpr std::string_view remedy = "write it again";
  if (!json.is_object()) throw FormatError(where, "is not a JSON object", remedy);
  ModelSpec spec;
  for (const auto& [key, value] : json.items()) {
    const auto& fields = model_spec_fields();
    const auto field =
        std::find_if(fields.begin(), fields.end(), [&](const ModelSpecField& row) { return row.key == key; });
    if (field == fields.end()) throw FormatError(where, fmt::format("field '{}' is not known", key), remedy);
    try {
      field->set(spec, value);
    } catch (const Json::exception&) {
      throw FormatError(where, fmt::format("field '{}' has a value of the wrong type", key), remedy);
    }
  }
  return spec;
}

std::string model_spec_fingerprint(const ModelSpec& spec) {
  std::string text;
  for (const ModelSpecField& field : model_spec_fields()) {
    if (field.computes) text += fmt::format("{}={} ", field.key, field.get(spec).dump());
  }
  return text;
}

void require_supported(const ModelSpec& spec, std::string_view where) {
  const auto refuse = [&](std::string_view field) {
    const auto& fields = model_spec_fields();
    const auto row =
        std::find_if(fields.begin(), fields.end(), [&](const ModelSpecField& each) { return each.key == field; });
    std::string value = row->get(spec).dump();
    if (value.size() > 60) value = value.substr(0, 57) + "...";
    throw UnsupportedError(where,
                           fmt::format("field '{}' = {} changes the arithmetic and is not supported", field, value),
                           "choose a model without it");
  };
  if (spec.block_pattern.empty()) refuse("block_pattern");
  if (spec.rotary_channels() < 2 || spec.rotary_channels() > spec.head_dim || spec.rotary_channels() % 2 != 0) {
    refuse("rotary_width");
  }
  if (spec.score_soft_cap != 0) refuse("score_soft_cap");
  if (spec.logit_soft_cap != 0) refuse("logit_soft_cap");
}

}  // namespace pq
