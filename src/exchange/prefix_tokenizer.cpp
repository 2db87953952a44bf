#include "exchange/prefix_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace pq::exchange {
namespace {

constexpr std::string_view name = "<prefix>";

Json sequence(std::string_view id, int type) { return {{"Sequence", {{"id", id}, {"type_id", type}}}}; }

/// The template of a tokenizer that adds nothing.
Json plain_template() {
  return {{"type", "TemplateProcessing"},
          {"single", {sequence("A", 0)}},
          {"pair", {sequence("A", 0), sequence("B", 1)}},
          {"special_tokens", Json::object()}};
}

void add_to_template(Json& processor, const Json& entry) {
  Json single = Json::array({Json{{"SpecialToken", {{"id", name}, {"type_id", 0}}}}});
  for (const Json& piece : processor.at("single")) single.push_back(piece);
  processor["single"] = std::move(single);
  if (!processor.contains("special_tokens") || !processor["special_tokens"].is_object()) {
    processor["special_tokens"] = Json::object();
  }
  processor["special_tokens"][std::string(name)] = entry;
}

bool is_template(const Json& processor) {
  return processor.is_object() && processor.contains("type") && processor["type"] == "TemplateProcessing" &&
         processor.contains("single") && processor["single"].is_array();
}

}  // namespace

Json with_prefix(Json json, std::span<const std::int32_t> ids, const Tokenizer& tokenizer, std::string_view where) {
  Json tokens = Json::array();
  for (const std::int32_t id : ids) tokens.push_back(tokenizer.token_text(id));
  const Json entry{{"id", name}, {"ids", std::vector<std::int32_t>(ids.begin(), ids.end())}, {"tokens", tokens}};
  Json& processor = json["post_processor"];
  if (is_template(processor)) {
    add_to_template(processor, entry);
    return json;
  }
  const bool is_sequence = processor.is_object() && processor.contains("type") && processor["type"] == "Sequence" &&
                           processor.contains("processors") && processor["processors"].is_array();
  if (is_sequence) {
    Json& parts = processor["processors"];
    const auto found = std::find_if(parts.begin(), parts.end(), is_template);
    if (found == parts.end()) {
      Json added = plain_template();
      add_to_template(added, entry);
      parts.push_back(std::move(added));
    } else {
      add_to_template(*found, entry);
    }
    return json;
  }
  Json added = plain_template();
  add_to_template(added, entry);
  if (processor.is_null()) {
    processor = std::move(added);
  } else if (processor.is_object() && processor.contains("type") && processor["type"] == "ByteLevel") {
    processor = {{"type", "Sequence"}, {"processors", {processor, std::move(added)}}};
  } else {
    throw UnsupportedError(where, "its post_processor has no template that a prefix could be put into",
                           "export without the prefix: --no-prefix");
  }
  return json;
}

std::optional<std::string> chat_template_with_prefix(const std::string& chat_template, std::string_view prefix_text,
                                                     std::span<const std::int32_t> ids, const Tokenizer& tokenizer) {
  if (ids.empty() || !tokenizer.is_special(ids.back())) return std::nullopt;
  const std::vector<std::int32_t> encoded = tokenizer.encode(prefix_text, false);
  if (!std::equal(encoded.begin(), encoded.end(), ids.begin(), ids.end())) return std::nullopt;
  // A JSON string is a string of Jinja, too.
  const std::string literal = Json(prefix_text).dump(-1, ' ', true, Json::error_handler_t::replace);
  return fmt::format("{{{{- {} -}}}}{}", literal, chat_template);
}

}  // namespace pq::exchange
