#include "model/format_override.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/error.h"
#include "base/suggest.h"

namespace pq {
namespace {

constexpr std::string_view blocks_scope = "blocks.";
constexpr std::string_view linear_scope = "linear.";
constexpr std::int64_t most_blocks = 1 << 20;

[[noreturn]] void refuse(std::string_view key, const std::string& what, const std::string& remedy) {
  throw InputError(fmt::format("recipe field {}", key), what, remedy);
}

/// What stands before the next dot, which is taken off `rest` with it.
std::string_view next_part(std::string_view& rest) {
  const std::string_view part = rest.substr(0, rest.find('.'));
  rest.remove_prefix(std::min(rest.size(), part.size() + 1));
  return part;
}

std::optional<std::int64_t> block_number(std::string_view text) {
  std::int64_t value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || code != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value < 0 || value >= most_blocks ? std::nullopt : std::optional(value);
}

BlockRange parse_blocks(std::string_view key, std::string_view text) {
  const auto dash = text.find('-');
  const auto first = block_number(text.substr(0, dash));
  const auto last = dash == std::string_view::npos ? first : block_number(text.substr(dash + 1));
  if (!first || !last) {
    refuse(key, fmt::format("'{}' is no range of blocks", text), "for example blocks.0-1, both included, or blocks.3");
  }
  if (*first > *last) {
    refuse(key, fmt::format("the range of blocks {} ends before it begins", text),
           fmt::format("write blocks.{}-{}", *last, *first));
  }
  return {*first, *last};
}

LinearId parse_linear(std::string_view key, std::string_view name) {
  std::vector<std::string> names;
  for (const LinearId linear : all_linears) {
    if (linear_name(linear) == name) return linear;
    names.emplace_back(linear_name(linear));
  }
  refuse(key, fmt::format("there is no linear layer '{}' in a block", name), did_you_mean(name, names));
}

bool is_format_field(std::string_view key) {
  return key.starts_with("weight.") || key.starts_with("activation.") || key.starts_with("kv.");
}

/// The field, and that a format has it.
const RecipeField& format_field(std::string_view key, std::string_view name) {
  const RecipeField* field = find_recipe_field(name);
  if (field != nullptr && is_format_field(name)) return *field;
  if (field != nullptr) {
    refuse(key, fmt::format("{} is the whole model's", name),
           "blocks and linear layers have formats of their own: weight.*, activation.* and kv.*");
  }
  std::vector<std::string> names;
  for (const RecipeField& known : recipe_fields()) {
    if (is_format_field(known.key)) names.push_back(known.key);
  }
  refuse(key, fmt::format("there is no format field '{}'", name), did_you_mean(name, names));
}

}  // namespace

std::string_view linear_name(LinearId linear) {
  const std::string_view name = tensor_names::linear_in_block(linear);
  return name.substr(name.find('.') + 1);
}

bool is_scoped(std::string_view key) { return key.starts_with(blocks_scope) || key.starts_with(linear_scope); }

FormatOverride parse_override(std::string_view key, std::string_view value) {
  FormatOverride result;
  std::string_view rest = key;
  if (rest.starts_with(blocks_scope)) {
    rest.remove_prefix(blocks_scope.size());
    result.blocks = parse_blocks(key, next_part(rest));
  }
  if (rest.starts_with(linear_scope)) {
    rest.remove_prefix(linear_scope.size());
    result.linear = parse_linear(key, next_part(rest));
  }
  const RecipeField& field = format_field(key, rest);
  result.field = field.key;
  if (result.linear && result.field.starts_with("kv.")) {
    refuse(key, "K and V are a block's, not a linear layer's", fmt::format("for example blocks.0-1.{}", result.field));
  }
  if (result.field == "kv.symmetric" && value == "auto") {
    refuse(key, "'auto' is decided for the whole model", "allowed: true or false; or --set kv.symmetric=auto");
  }
  Recipe scratch;
  try {
    field.set(scratch, value);
  } catch (const InputError& error) {
    throw InputError(fmt::format("{}={}", key, value), error.what());
  }
  const Json canonical = field.get(scratch);
  result.value = canonical.is_string() ? canonical.get<std::string>() : canonical.dump();
  return result;
}

std::string override_key(const FormatOverride& override) {
  std::string key;
  if (override.blocks) {
    const auto [first, last] = *override.blocks;
    key += first == last ? fmt::format("blocks.{}.", first) : fmt::format("blocks.{}-{}.", first, last);
  }
  if (override.linear) key += fmt::format("linear.{}.", linear_name(*override.linear));
  return key + override.field;
}

std::string override_setting(const FormatOverride& override) {
  return fmt::format("{}={}", override_key(override), override.value);
}

void add_override(std::vector<FormatOverride>& overrides, FormatOverride override) {
  std::erase_if(overrides, [&](const FormatOverride& other) {
    return other.blocks == override.blocks && other.linear == override.linear && other.field == override.field;
  });
  overrides.push_back(std::move(override));
}

}  // namespace pq
