#include "io/gguf_metadata.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "base/error.h"

namespace pq::io {
namespace {

constexpr std::array<GgufArchitecture, 8> architectures{{
    {"llama", "llama", true, "mistral"},
    {"qwen2", "qwen2"},
    {"qwen3", "qwen3"},
    {"phi3", "phi3"},
    {"smollm3", "smollm3", true},
    {"granite", "granite", true},
    {"gemma3", "gemma3_text"},
    {"olmo2", "olmo2"},
}};

std::optional<std::int64_t> whole(const GgufValue& value) {
  if (const auto* number = std::get_if<std::int64_t>(&value)) return *number;
  const auto* number = std::get_if<std::uint64_t>(&value);
  if (number == nullptr || *number > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) return {};
  return static_cast<std::int64_t>(*number);
}

}  // namespace

const GgufArchitecture* gguf_architecture_of(std::string_view model_type) {
  const auto* found = std::find_if(architectures.begin(), architectures.end(), [&](const GgufArchitecture& row) {
    return row.model_type == model_type || (!row.also.empty() && row.also == model_type);
  });
  return found == architectures.end() ? nullptr : found;
}

void GgufMetadata::fail(std::string_view key, std::string_view what) const {
  throw FormatError(file_.file(), fmt::format("key '{}' {}", key, what),
                    "the file is damaged, or was made by a program that does not follow the format");
}

std::optional<std::int64_t> GgufMetadata::integer(std::string_view key) const {
  const GgufValue* value = file_.find(key);
  if (value == nullptr) return std::nullopt;
  const auto number = whole(*value);
  if (!number) fail(key, "is not a whole number");
  return number;
}

std::optional<double> GgufMetadata::number(std::string_view key) const {
  const GgufValue* value = file_.find(key);
  if (value == nullptr) return std::nullopt;
  if (const auto* real = std::get_if<double>(value)) {
    if (!std::isfinite(*real)) fail(key, "is not a finite number");
    return as_written(*real);
  }
  const auto number = whole(*value);
  if (!number) fail(key, "is not a number");
  return static_cast<double>(*number);
}

std::optional<bool> GgufMetadata::boolean(std::string_view key) const {
  const GgufValue* value = file_.find(key);
  if (value == nullptr) return std::nullopt;
  if (!std::holds_alternative<bool>(*value)) fail(key, "is not true or false");
  return std::get<bool>(*value);
}

std::optional<std::string> GgufMetadata::text(std::string_view key) const {
  const GgufValue* value = file_.find(key);
  if (value == nullptr) return std::nullopt;
  if (!std::holds_alternative<std::string_view>(*value)) fail(key, "is not a text");
  return std::string(std::get<std::string_view>(*value));
}

std::optional<GgufArray> GgufMetadata::array(std::string_view key) const {
  const GgufValue* value = file_.find(key);
  if (value == nullptr) return std::nullopt;
  if (!std::holds_alternative<GgufArray>(*value)) fail(key, "is not an array");
  return std::get<GgufArray>(*value);
}

std::optional<std::int64_t> GgufMetadata::integer_of_blocks(std::string_view key) const {
  const GgufValue* value = file_.find(key);
  if (value == nullptr || !std::holds_alternative<GgufArray>(*value)) return integer(key);
  const auto& values = std::get<GgufArray>(*value);
  if (values.count == 0 || values.type == GgufType::string) fail(key, "is an array without numbers");
  const double first = values.number(0);
  for (std::uint64_t i = 1; i < values.count; ++i) {
    if (values.number(i) == first) continue;
    throw UnsupportedError(file_.file(), fmt::format("key '{}' differs from block to block", key),
                           "only blocks of one shape are supported");
  }
  if (first != std::floor(first) || std::abs(first) > 1e15) fail(key, "is not a whole number");
  return static_cast<std::int64_t>(first);
}

std::int64_t GgufMetadata::required_integer(std::string_view key) const {
  const auto value = integer_of_blocks(key);
  if (!value) fail(key, "is missing");
  return *value;
}

const GgufArchitecture& GgufMetadata::architecture() const {
  const auto name = text("general.architecture");
  if (!name) fail("general.architecture", "is missing");
  std::string known;
  for (const GgufArchitecture& row : architectures) {
    if (row.name == *name) return row;
    known += fmt::format("{}{}", known.empty() ? "" : ", ", row.name);
  }
  throw UnsupportedError(file_.file(), fmt::format("architecture '{}' is not supported", *name),
                         fmt::format("supported: {}", known));
}

std::string GgufMetadata::key(std::string_view name) const { return fmt::format("{}.{}", architecture().name, name); }

double as_written(double value) {
  const auto single = static_cast<float>(value);
  if (static_cast<double>(single) != value) return value;
  return std::strtod(fmt::format("{}", single).c_str(), nullptr);
}

}  // namespace pq::io
