// What --set and a checkpoint say of a recipe (model/recipe.h).
#include <fmt/format.h>

#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/suggest.h"
#include "model/format_override.h"
#include "model/recipe.h"

namespace pq {
namespace {

constexpr const char* overrides_key = "overrides";

std::string field_suggestion(std::string_view key) {
  std::vector<std::string> keys;
  for (const RecipeField& field : recipe_fields()) keys.push_back(field.key);
  return did_you_mean(key, keys);
}

void visit_leaves(const Json& json, const std::string& path,
                  const std::function<void(const std::string&, const Json&)>& visit) {
  for (const auto& [key, value] : json.items()) {
    if (path.empty() && key == overrides_key) continue;
    const std::string name = path.empty() ? key : path + "." + key;
    if (value.is_object()) {
      visit_leaves(value, name, visit);
    } else {
      visit(name, value);
    }
  }
}

}  // namespace

void apply_setting(Recipe& recipe, std::string_view assignment) {
  const auto equals = assignment.find('=');
  if (equals == std::string_view::npos) {
    throw InputError(fmt::format("--set {}", assignment), "is not of the form key=value",
                     "for example --set weight.bits=3");
  }
  const std::string_view key = assignment.substr(0, equals);
  if (is_scoped(key)) {
    add_override(recipe.overrides, parse_override(key, assignment.substr(equals + 1)));
    return;
  }
  const RecipeField* field = find_recipe_field(key);
  if (field == nullptr) {
    throw InputError(fmt::format("recipe field '{}'", key), "there is no such field", field_suggestion(key));
  }
  field->set(recipe, assignment.substr(equals + 1));
}

Json recipe_to_json(const Recipe& recipe) {
  Json json = Json::object();
  for (const RecipeField& field : recipe_fields()) {
    const auto dot = field.key.find('.');
    if (dot == std::string::npos) {
      json[field.key] = field.get(recipe);
    } else {
      json[field.key.substr(0, dot)][field.key.substr(dot + 1)] = field.get(recipe);
    }
  }
  // Left out where there is none: whoever knows of no overrides can read all other recipes.
  for (const FormatOverride& override : recipe.overrides) json[overrides_key].push_back(override_setting(override));
  return json;
}

Recipe recipe_from_json(const Json& json, std::string_view where) {
  if (!json.is_object()) throw FormatError(where, "the recipe is not a JSON object", "quantize the model again");
  Recipe recipe;
  if (json.contains(overrides_key)) {
    const Json& overrides = json[overrides_key];
    const auto wrong = [&](std::string_view what) {
      throw FormatError(where, fmt::format("recipe field {}: {}", overrides_key, what), "quantize the model again");
    };
    constexpr std::size_t most = 16384;
    if (!overrides.is_array()) wrong("is not a list");
    if (overrides.size() > most) wrong(fmt::format("has {} entries, more than {}", overrides.size(), most));
    for (const Json& entry : overrides) {
      const std::string setting = entry.is_string() ? entry.get<std::string>() : std::string();
      if (!is_scoped(setting) || setting.find('=') == std::string::npos) {
        wrong(fmt::format("{} is no setting of some blocks or linear layers", entry.dump()));
      }
      try {
        apply_setting(recipe, setting);
      } catch (const InputError& error) {
        throw FormatError(where, error.what());
      }
    }
  }
  visit_leaves(json, "", [&](const std::string& key, const Json& value) {
    const RecipeField* field = find_recipe_field(key);
    if (field == nullptr) {
      throw FormatError(where, fmt::format("unknown recipe field '{}'", key),
                        "it was written by a newer version, or edited");
    }
    try {
      field->set(recipe, value.is_string() ? value.get<std::string>() : value.dump());
    } catch (const InputError& error) {
      throw FormatError(where, error.what());
    }
  });
  return recipe;
}

}  // namespace pq
