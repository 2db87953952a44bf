#include "tokenizer/model_files.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"

namespace pq {
namespace {

/// A file of the model, if it is there.
class OptionalFile {
 public:
  OptionalFile(const TextFiles& files, std::string_view name) : path_(files.place(name)) {
    if (files.has(name)) json_ = nlohmann::json(files.json(name));
  }
  bool present() const { return !json_.is_null(); }
  bool has(std::string_view key) const { return present() && json_.is_object() && json_.contains(std::string(key)); }
  JsonFields fields() const { return {json_, path_, ""}; }

 private:
  std::string path_;
  nlohmann::json json_;
};

/// "bos_token": a string, or an object with "content"; an explicit null means none.
std::optional<std::int32_t> named_token(const JsonFields& fields, std::string_view key, const TokenizerParts& parts) {
  const nlohmann::json* value = fields.find(key);
  if (value == nullptr) return std::nullopt;
  const std::string token = value->is_object() ? fields.object(key).string("content") : fields.string(key);
  const std::optional<std::int32_t> id = parts.id_of(token);
  if (!id) fields.format_error(key, fmt::format("is '{}', which is not a token of tokenizer.json", token));
  return id;
}

/// "bos_token_id": a number, or a list of which the first counts.
std::optional<std::int32_t> numbered_token(const JsonFields& fields, std::string_view key) {
  constexpr auto max_id = static_cast<std::uint64_t>(TokenTable::max_tokens - 1);
  const nlohmann::json* value = fields.find(key);
  if (value == nullptr || (value->is_array() && value->empty())) return std::nullopt;
  return static_cast<std::int32_t>(
      json_number(value->is_array() ? value->front() : *value, max_id, fields.file(), fields.path(key)));
}

std::optional<std::string> read_chat_template(const TextFiles& files, const OptionalFile& config) {
  if (files.has("chat_template.jinja")) return files.read("chat_template.jinja");
  if (!config.present()) return std::nullopt;
  const JsonFields fields = config.fields();
  const nlohmann::json* value = fields.find("chat_template");
  if (value == nullptr || !value->is_array()) return fields.optional_string("chat_template");
  for (std::size_t i = 0; i < value->size(); ++i) {
    const JsonFields named = fields.element("chat_template", i);
    if (named.string("name") == "default") return named.string("template");
  }
  return std::nullopt;
}

}  // namespace

std::shared_ptr<const TokenizerParts> load_model_files(const TextFiles& files) {
  constexpr std::string_view name = "tokenizer.json";
  const std::string place = files.place(name);
  if (!files.has(name)) {
    throw InputError(place, "there is no such file",
                     "copy the model's tokenizer.json there, or make one with "
                     "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) of Python's transformers");
  }
  const std::shared_ptr<TokenizerParts> parts = TokenizerParts::parse(files.read(name), place);
  const OptionalFile config(files, "tokenizer_config.json");
  const OptionalFile special_tokens(files, "special_tokens_map.json");
  const OptionalFile generation(files, "generation_config.json");
  const auto look_up = [&](const std::string& key, std::optional<std::int32_t> fallback) {
    for (const OptionalFile* file : {&config, &special_tokens}) {
      if (file->has(key)) return named_token(file->fields(), key, *parts);
    }
    if (generation.has(key + "_id")) return numbered_token(generation.fields(), key + "_id");
    return fallback;
  };
  parts->bos_id = look_up("bos_token", parts->bos_id);
  parts->eos_id = look_up("eos_token", std::nullopt);
  parts->chat_template = read_chat_template(files, config);
  return parts;
}

}  // namespace pq
