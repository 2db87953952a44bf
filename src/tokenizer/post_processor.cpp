#include "tokenizer/post_processor.h"

#include <fmt/format.h>

namespace pq {
namespace {

constexpr std::size_t max_special_ids = 1024;

/// The id of ["</s>", 2].
std::int32_t read_pair(const JsonFields& json, std::string_view key, std::size_t id_end) {
  const nlohmann::json& pair = json.array(key, 2);
  if (pair.size() != 2) json.format_error(key, "is not a token with its id");
  return static_cast<std::int32_t>(json_number(pair[1], id_end == 0 ? 0 : id_end - 1, json.file(), json.path(key)));
}

}  // namespace

PostProcessor::PostProcessor(const JsonFields& json, std::size_t id_end) { add(json, id_end, 0); }

void PostProcessor::add(const JsonFields& json, std::size_t id_end, int depth) {
  const std::string type = json.string("type");
  if (type == "Sequence") {
    if (depth > 4) json.unsupported("sequences inside sequences deeper than 4");
    const std::size_t count = json.array("processors", max_steps).size();
    for (std::size_t i = 0; i < count; ++i) add(json.element("processors", i), id_end, depth + 1);
  } else if (type == "TemplateProcessing") {
    add_template(json, id_end);
  } else if (type == "RobertaProcessing" || type == "BertProcessing") {
    if (has_template_) json.unsupported("a second post-processor that adds tokens is not supported");
    has_template_ = true;
    prefix.push_back(read_pair(json, "cls", id_end));
    suffix.push_back(read_pair(json, "sep", id_end));
  } else if (type != "ByteLevel") {
    json.unsupported(fmt::format("post_processor type '{}' is not supported", type),
                     "only Sequence, TemplateProcessing, RobertaProcessing, BertProcessing, ByteLevel are");
  }
}

void PostProcessor::add_template(const JsonFields& json, std::size_t id_end) {
  if (has_template_) json.unsupported("a second post-processor that adds tokens is not supported");
  has_template_ = true;
  bool seen = false;
  const std::size_t count = json.array("single", max_special_ids).size();
  for (std::size_t i = 0; i < count; ++i) {
    const JsonFields piece = json.element("single", i);
    if (piece.find("Sequence") != nullptr) {
      if (seen || piece.object("Sequence").string("id") != "A")
        json.unsupported("a template that does not hold sequence A exactly once");
      seen = true;
      continue;
    }
    const std::string name = piece.object("SpecialToken").string("id");
    const JsonFields special = json.object("special_tokens").object(name);
    for (const nlohmann::json& id : special.array("ids", max_special_ids)) {
      const std::uint64_t value = json_number(id, id_end == 0 ? 0 : id_end - 1, json.file(), special.path("ids"));
      (seen ? suffix : prefix).push_back(static_cast<std::int32_t>(value));
    }
    if (prefix.size() + suffix.size() > max_special_ids) {
      json.unsupported(fmt::format("more than {} special tokens around a text", max_special_ids));
    }
  }
  if (!seen) json.unsupported("a template that does not hold sequence A exactly once");
}

}  // namespace pq
