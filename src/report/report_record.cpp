#include "report/report_record.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "base/error.h"

namespace pq::report {
namespace {

// The fields of each struct, once for both ways: visit(name, member).

template <typename T, typename Visit>
requires std::is_same_v<std::remove_const_t<T>, WorstLinear>
void fields(T& x, const Visit& visit) {
  visit("block", x.block), visit("linear", x.linear), visit("cost", x.cost), visit("error", x.error);
  visit("weights", x.weights), visit("inputs", x.inputs), visit("settings", x.settings);
  visit("bits_per_weight", x.bits_per_weight);
}

template <typename T, typename Visit>
requires std::is_same_v<std::remove_const_t<T>, KindCost>
void fields(T& x, const Visit& visit) {
  visit("name", x.name), visit("kl", x.kl), visit("settings", x.settings);
  visit("bits_per_weight", x.bits_per_weight);
}

template <typename T, typename Visit>
requires std::is_same_v<std::remove_const_t<T>, MendingProposal>
void fields(T& x, const Visit& visit) {
  visit("names", x.names), visit("settings", x.settings), visit("bits_per_weight", x.bits_per_weight);
  visit("command", x.command);
}

template <typename T, typename Visit>
requires std::is_same_v<std::remove_const_t<T>, QuantizationReport::Tuning>
void fields(T& x, const Visit& visit) {
  visit("name", x.name), visit("loss", x.loss), visit("start", x.start), visit("end", x.end);
  visit("training", x.training), visit("validation", x.validation), visit("kept_start", x.kept_start);
}

template <typename T, typename Visit>
requires std::is_same_v<std::remove_const_t<T>, QuantizationReport::Step>
void fields(T& x, const Visit& visit) {
  visit("name", x.name), visit("seconds", x.seconds), visit("memory_bytes", x.memory_bytes);
}

template <typename T, typename Visit>
requires std::is_same_v<std::remove_const_t<T>, RemainingOutliers>
void fields(T& x, const Visit& visit) {
  visit("per_sequence", x.per_sequence), visit("sequence_share", x.sequence_share), visit("max_ratio", x.max_ratio);
}

template <typename T, typename Visit>
requires std::is_same_v<std::remove_const_t<T>, QuantizationReport>
void fields(T& x, const Visit& visit) {
  visit("model", x.model), visit("recipe", x.recipe), visit("precision", x.precision);
  visit("recipe_in_words", x.recipe_in_words), visit("prefix_text", x.prefix_text);
  visit("prefix_token_ids", x.prefix_token_ids), visit("calibration", x.calibration), visit("settings", x.settings);
  visit("linears", x.linears), visit("linear_errors", x.linear_errors), visit("block_errors", x.block_errors);
  visit("linear_costs", x.linear_costs), visit("worst", x.worst), visit("kinds", x.kinds);
  visit("proposal", x.proposal), visit("bits_per_weight", x.bits_per_weight);
  visit("weight_scales", x.weight_scales), visit("sites", x.sites), visit("site_scales", x.site_scales);
  visit("site_clips", x.site_clips), visit("tuning", x.tuning), visit("block_seconds", x.block_seconds);
  visit("steps", x.steps), visit("seconds", x.seconds), visit("checkpoint_bytes", x.checkpoint_bytes);
  visit("memory_bytes", x.memory_bytes), visit("remaining", x.remaining);
}

template <typename T, typename Visit>
requires std::is_same_v<std::remove_const_t<T>, HubFacts>
void fields(T& x, const Visit& visit) {
  visit("license", x.license), visit("license_name", x.license_name), visit("languages", x.languages);
}

template <typename T, typename Visit>
requires std::is_same_v<std::remove_const_t<T>, Table>
void fields(T& x, const Visit& visit) { visit("caption", x.caption), visit("header", x.header), visit("rows", x.rows); }

template <typename T, typename Visit>
requires std::is_same_v<std::remove_const_t<T>, Cell>
void fields(T& x, const Visit& visit) { visit("text", x.text), visit("value", x.value); }

template <typename T, typename Visit>
requires std::is_same_v<std::remove_const_t<T>, ModelCard>
void fields(T& x, const Visit& visit) {
  visit("name", x.name), visit("base_model", x.base_model), visit("base", x.base), visit("program", x.program);
  visit("recipe", x.recipe), visit("precision", x.precision), visit("recipe_in_words", x.recipe_in_words);
  visit("prefix_text", x.prefix_text), visit("prefix_token_ids", x.prefix_token_ids);
  visit("calibration", x.calibration), visit("sizes", x.sizes), visit("measured", x.measured);
  visit("command", x.command), visit("commands", x.commands);
}

template <typename T>
struct IsVector : std::false_type {};
template <typename T>
struct IsVector<std::vector<T>> : std::true_type {};
template <typename T>
struct IsOptional : std::false_type {};
template <typename T>
struct IsOptional<std::optional<T>> : std::true_type {};
template <typename T>
struct IsPair : std::false_type {};
template <typename A, typename B>
struct IsPair<std::pair<A, B>> : std::true_type {};

template <typename T>
Json written(const T& x) {
  if constexpr (std::is_floating_point_v<T>) {
    return std::isfinite(x) ? Json(x) : Json();
  } else if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
    return Json(x);
  } else if constexpr (IsVector<T>::value) {
    Json all = Json::array();
    for (const auto& one : x) all.push_back(written(one));
    return all;
  } else if constexpr (IsOptional<T>::value) {
    return x ? written(*x) : Json();
  } else if constexpr (IsPair<T>::value) {
    return Json::array({x.first, x.second});
  } else {
    Json object = Json::object();
    fields(x, [&](const char* name, const auto& member) { object[name] = written(member); });
    return object;
  }
}

/// Reads what it is told to, or throws a Json::exception.
template <typename T>
void read(const Json& json, T& x) {
  if constexpr (std::is_floating_point_v<T>) {
    x = json.is_null() ? std::numeric_limits<T>::quiet_NaN() : json.get<T>();
  } else if constexpr (std::is_same_v<T, bool> || std::is_same_v<T, std::string>) {
    json.get_ref<const std::conditional_t<std::is_same_v<T, bool>, Json::boolean_t, Json::string_t>&>();
    x = json.get<T>();
  } else if constexpr (std::is_integral_v<T>) {
    json.get_ref<const Json::number_integer_t&>();  // no fraction
    x = json.get<T>();
  } else if constexpr (IsVector<T>::value) {
    x.clear();
    for (const Json& one : json.get_ref<const Json::array_t&>()) {
      if constexpr (std::is_same_v<typename T::value_type, Cell>) {
        read(one, x.emplace_back(""));
      } else {
        read(one, x.emplace_back());
      }
    }
  } else if constexpr (IsOptional<T>::value) {
    if (json.is_null()) {
      x.reset();
    } else {
      read(json, x.emplace());
    }
  } else if constexpr (IsPair<T>::value) {
    read(json.at(0), x.first);
    read(json.at(1), x.second);
  } else {
    fields(x, [&](const char* name, auto& member) { read(json.at(name), member); });
  }
}

/// A picture needs a value for each of its cells.
void check_grid(const std::vector<std::vector<double>>& values, std::size_t columns, std::string_view name,
                std::string_view where) {
  const bool whole = std::all_of(values.begin(), values.end(), [&](const auto& row) { return row.size() == columns; });
  if (!whole) throw FormatError(where, fmt::format("'{}' does not have {} values a block", name, columns));
}

}  // namespace

Json to_json(const ReportRecord& record) {
  return {{"prefixquant_report", record_version}, {"report", written(record.report)}, {"card", written(record.card)}};
}

ReportRecord record_from_json(const Json& json, std::string_view where) {
  constexpr std::string_view remedy = "make it with pq quantize again";
  if (!json.is_object() || !json.contains("prefixquant_report"))
    throw FormatError(where, "is no record of a report", remedy);
  if (json["prefixquant_report"] != record_version) {
    throw UnsupportedError(where,
                           fmt::format("is a record of version {}, this program reads version {}",
                                       json["prefixquant_report"].dump(), record_version),
                           "use the program's version that wrote it");
  }
  ReportRecord record;
  try {
    read(json.at("report"), record.report);
    read(json.at("card"), record.card);
  } catch (const Json::exception& error) {
    throw FormatError(where, fmt::format("is no record of a report ({})", error.what()), remedy);
  }
  const QuantizationReport& report = record.report;
  check_grid(report.linear_errors, report.linears.size(), "linear_errors", where);
  check_grid(report.linear_costs, report.linears.size(), "linear_costs", where);
  check_grid(report.weight_scales, report.linears.size(), "weight_scales", where);
  check_grid(report.site_scales, report.sites.size(), "site_scales", where);
  check_grid(report.site_clips, report.sites.size(), "site_clips", where);
  for (const Table* table : {&record.card.sizes, &record.card.measured}) {
    for (const auto& row : table->rows) {
      if (row.size() != table->header.size()) throw FormatError(where, "a table's row does not fit its header", remedy);
    }
  }
  return record;
}

}  // namespace pq::report
