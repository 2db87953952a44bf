#include "exchange/gguf_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/index.h"
#include "base/json.h"
#include "io/gguf_vocabulary.h"
#include "tokenizer/tokenizer.h"

namespace pq::exchange {
namespace {

using io::TokenType;

constexpr std::string_view file_name = "tokenizer.json";
constexpr std::string_view metaspace = "\u2581";
constexpr std::string_view no_such = "llama.cpp would cut texts into other tokens";

std::string text_of(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_string() ? object[key].get<std::string>() : "";
}

bool flag_of(const Json& object, const char* key, bool otherwise) {
  return object.is_object() && object.contains(key) && object[key].is_boolean() ? object[key].get<bool>() : otherwise;
}

/// The steps of a normalizer or pre-tokenizer: those of a sequence, or itself.
std::vector<Json> steps_of(const Json& json, const char* part, const char* list) {
  if (!json.contains(part) || json[part].is_null()) return {};
  const Json& step = json[part];
  if (text_of(step, "type") != "Sequence") return {step};
  if (!step.contains(list) || !step[list].is_array()) return {step};
  return step[list].get<std::vector<Json>>();
}

class Vocabulary {
 public:
  Vocabulary(const TextFiles& texts, const ModelSpec& spec)
      : where_(texts.place(file_name)), json_(texts.json(file_name)), spec_(spec) {
    if (!json_.is_object() || !json_.contains("model") || !json_["model"].is_object()) refuse("model", "is missing");
    const Json& model = json_["model"];
    if (const std::string type = text_of(model, "type"); type != "BPE")
      refuse("model.type", fmt::format("is '{}'", type));
    byte_fallback_ = flag_of(model, "byte_fallback", false);
    take_vocabulary(model);
  }

  void add(GgufKeys& keys) const {
    keys.text("tokenizer.ggml.model", byte_fallback_ ? "llama" : "gpt2");
    keys.text("tokenizer.ggml.pre", byte_fallback_ ? std::string("default") : pre_tokenizer());
    keys.texts("tokenizer.ggml.tokens", tokens_);
    keys.i32s("tokenizer.ggml.token_type", types_);
    if (byte_fallback_) {
      keys.f32s("tokenizer.ggml.scores", scores());
      keys.boolean("tokenizer.ggml.add_space_prefix", space_prefix());
    } else {
      std::vector<std::string> merges;
      for (const auto& [left, right] : merges_) merges.push_back(fmt::format("{} {}", left, right));
      keys.texts("tokenizer.ggml.merges", merges);
    }
  }

 private:
  [[noreturn]] void refuse(std::string_view part, std::string_view what) const {
    throw UnsupportedError(where_, fmt::format("field '{}' {}, which has no place in GGUF", part, what), no_such);
  }

  void take(std::size_t id, const std::string& text, TokenType type) {
    if (id >= tokens_.size()) {
      throw FormatError(where_,
                        fmt::format("token '{}' has id {}, and the model has {} tokens", text, id, tokens_.size()),
                        "tokenizer and model do not belong together");
    }
    tokens_[id] = text;
    types_[id] = static_cast<std::int32_t>(type);
  }

  void take_vocabulary(const Json& model) {
    for (std::int64_t id = 0; id < spec_.vocab_size; ++id) tokens_.push_back(fmt::format("[PAD{}]", id));
    types_.assign(tokens_.size(), static_cast<std::int32_t>(TokenType::unused));
    if (!model.contains("vocab") || !model["vocab"].is_object()) refuse("model.vocab", "is missing");
    for (const auto& [text, id] : model["vocab"].items()) {
      if (!id.is_number_unsigned()) refuse("model.vocab", fmt::format("gives '{}' no id", text));
      const bool is_byte = byte_fallback_ && text.size() == 6 && text.starts_with("<0x") && text.ends_with('>');
      take(id.get<std::size_t>(), text, is_byte ? TokenType::byte : TokenType::normal);
    }
    const std::string unknown = byte_fallback_ ? text_of(model, "unk_token") : "";
    if (json_.contains("added_tokens") && json_["added_tokens"].is_array()) {
      for (const Json& token : json_["added_tokens"]) {
        if (!token.contains("id") || !token["id"].is_number_unsigned())
          refuse("added_tokens", "has a token without an id");
        const std::string text = text_of(token, "content");
        const bool special = flag_of(token, "special", false);
        take(token["id"].get<std::size_t>(), text,
             special && !unknown.empty() && text == unknown ? TokenType::unknown
             : special                                      ? TokenType::control
                                                            : TokenType::user_defined);
      }
    }
    if (!model.contains("merges") || !model["merges"].is_array()) refuse("model.merges", "is missing");
    for (const Json& merge : model["merges"]) merges_.push_back(parts_of(merge));
  }

  std::pair<std::string, std::string> parts_of(const Json& merge) const {
    if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string()) {
      return {merge[0].get<std::string>(), merge[1].get<std::string>()};
    }
    const std::string text = merge.is_string() ? merge.get<std::string>() : "";
    const auto space = text.find(' ');
    if (space == std::string::npos) refuse("model.merges", fmt::format("has the element {}", merge.dump()));
    return {text.substr(0, space), text.substr(space + 1)};
  }

  /// Of the tokens that merges make, minus the rank of the first that does; else 0.
  std::vector<float> scores() const {
    std::unordered_map<std::string, std::size_t> ids;
    for (std::size_t id = 0; id < tokens_.size(); ++id) ids.emplace(tokens_[id], id);
    std::vector<float> scores(tokens_.size(), 0.0F);
    for (std::size_t rank = 0; rank < merges_.size(); ++rank) {
      const auto found = ids.find(merges_[rank].first + merges_[rank].second);
      if (found == ids.end())
        refuse("model.merges",
               fmt::format("makes '{}{}', which is no token", merges_[rank].first, merges_[rank].second));
      float& score = scores[found->second];
      if (score == 0) score = -static_cast<float>(rank + 1);
    }
    return scores;
  }

  /// The name of the pre-tokenizer of byte-level BPE.
  std::string pre_tokenizer() const {
    bool nfc = false;
    for (const Json& step : steps_of(json_, "normalizer", "normalizers")) {
      if (text_of(step, "type") != "NFC") refuse("normalizer", fmt::format("has the step '{}'", text_of(step, "type")));
      nfc = true;
    }
    bool digits = false;
    bool bytes = false;
    std::string pattern;
    for (const Json& step : steps_of(json_, "pre_tokenizer", "pretokenizers")) {
      const std::string type = text_of(step, "type");
      if (type == "Digits" && flag_of(step, "individual_digits", false) && pattern.empty()) {
        digits = true;
      } else if (type == "Split" && pattern.empty() && text_of(step, "behavior") == "Isolated" &&
                 !flag_of(step, "invert", false) && step.contains("pattern")) {
        pattern = text_of(step["pattern"], "Regex");
      } else if (type == "ByteLevel" && !flag_of(step, "add_prefix_space", true)) {
        bytes = flag_of(step, "use_regex", true) == pattern.empty();
      } else {
        refuse("pre_tokenizer", fmt::format("has the step {}", step.dump()));
      }
    }
    if (!bytes) refuse("pre_tokenizer", "is not byte-level as one of those that llama.cpp knows");
    const bool ignore_merges = flag_of(json_["model"], "ignore_merges", false);
    for (const io::PreTokenizerRow& row : io::pre_tokenizer_rows()) {
      if (row.pattern != pattern || row.digits != digits || row.nfc != nfc || row.ignore_merges != ignore_merges)
        continue;
      return std::string(row.written.empty() ? row.names.substr(0, row.names.find(' ')) : row.written);
    }
    refuse("pre_tokenizer", pattern.empty() ? "is none that llama.cpp has a name for"
                                            : fmt::format("cuts by {}, for which llama.cpp has no name", pattern));
  }

  /// Whether a space is put in front of a text, of BPE with byte fallback. Refuses other steps than those that make
  /// U+2581 of spaces.
  bool space_prefix() const {
    bool prefix = false;
    bool replaces = false;
    for (const Json& step : steps_of(json_, "normalizer", "normalizers")) {
      const std::string type = text_of(step, "type");
      if (type == "Prepend" && text_of(step, "prepend") == metaspace) {
        prefix = true;
      } else if (type == "Replace" && step.contains("pattern") && text_of(step["pattern"], "String") == " " &&
                 text_of(step, "content") == metaspace) {
        replaces = true;
      } else {
        refuse("normalizer", fmt::format("has the step {}", step.dump()));
      }
    }
    for (const Json& step : steps_of(json_, "pre_tokenizer", "pretokenizers")) {
      const std::string type = text_of(step, "type");
      if (type == "Metaspace" && text_of(step, "replacement") == metaspace) {
        prefix = text_of(step, "prepend_scheme") != "never" && flag_of(step, "add_prefix_space", true);
        replaces = true;
      } else if (type != "Split" || !step.contains("pattern") || text_of(step["pattern"], "String") != " " ||
                 !replaces) {
        // (A split at spaces finds none once they are replaced: Gemma has one.)
        refuse("pre_tokenizer", fmt::format("has the step {}", step.dump()));
      }
    }
    if (!replaces) refuse("normalizer", "does not replace spaces");
    return prefix;
  }

  std::string where_;
  Json json_;
  const ModelSpec& spec_;
  bool byte_fallback_ = false;
  std::vector<std::string> tokens_;
  std::vector<std::int32_t> types_;
  std::vector<std::pair<std::string, std::string>> merges_;
};

/// The id of a special token that tokenizer_config.json names.
std::optional<std::int32_t> named_token(const Json& config, const Tokenizer& tokenizer, const char* key) {
  if (!config.is_object() || !config.contains(key)) return std::nullopt;
  const std::string text = config[key].is_string() ? config[key].get<std::string>() : text_of(config[key], "content");
  return text.empty() ? std::nullopt : tokenizer.id_of(text);
}

/// Texts in which tokenizers differ that are alike in plain English.
constexpr std::array<std::string_view, 12> samples{
    "",
    "Hello world",
    " two  spaces, three   and a tab\tand\n\na newline\r\n  indented",
    "I'll say it's 'quoted', we've DON'T they'd",
    "0 12 345 6789 1,234,567.89 3.14e-5",
    "if (a[i] != b->c) { return f(x, y); } // done\n\treturn;",
    "Les élèves naïfs; Größe, Übermut, ſtraße",
    "Привет, мир! Γειά σου Κόσμε",
    "日本語のテキスト、中文文本。한국어 텍스트",
    "مرحبا بالعالم שלום עולם नमस्ते दुनिया",
    "emoji 🙂👍🏽👨‍👩‍👧 and ∑∫√≠",
    "CamelCaseWords snake_case_words kebab-case-words HTTPServer2Go",
};

}  // namespace

void add_tokenizer(GgufKeys& keys, const TextFiles& texts, const ModelSpec& spec) {
  Vocabulary(texts, spec).add(keys);
  const Tokenizer tokenizer = Tokenizer::load(texts);
  const Json config = texts.has("tokenizer_config.json") ? texts.json("tokenizer_config.json") : Json();
  const auto add_id = [&](const char* key, std::optional<std::int64_t> id) {
    if (id && *id >= 0 && *id < spec.vocab_size) keys.u32(fmt::format("tokenizer.ggml.{}_token_id", key), *id);
  };
  const std::optional<std::int32_t> bos =
      tokenizer.bos_id() ? tokenizer.bos_id() : named_token(config, tokenizer, "bos_token");
  std::optional<std::int64_t> eos;
  if (tokenizer.eos_id()) eos = *tokenizer.eos_id();
  if (!eos && !spec.eos_token_ids.empty()) eos = spec.eos_token_ids.front();
  add_id("bos", bos ? std::optional<std::int64_t>(*bos) : spec.bos_token_id);
  add_id("eos", eos);
  add_id("unknown", named_token(config, tokenizer, "unk_token"));
  add_id("padding", named_token(config, tokenizer, "pad_token"));
  static constexpr std::array more{"eot", "eom"};
  std::size_t used = 0;
  for (const std::int64_t id : spec.eos_token_ids) {
    if (id != eos && used < more.size()) add_id(more[used++], id);
  }
  const std::vector<std::int32_t> around = tokenizer.encode("", true);
  std::vector<std::int32_t> expected;
  const bool adds_bos = tokenizer.adds_bos();
  const bool adds_eos = eos && !around.empty() && around.back() == *eos && around.size() > (adds_bos ? 1U : 0U);
  if (adds_bos && bos) expected.push_back(*bos);
  if (adds_eos) expected.push_back(static_cast<std::int32_t>(*eos));
  if (around != expected) {
    throw UnsupportedError(texts.place(file_name),
                           "field 'post_processor' puts other tokens around a text than BOS and EOS",
                           "GGUF knows no others");
  }
  keys.boolean("tokenizer.ggml.add_bos_token", adds_bos);
  keys.boolean("tokenizer.ggml.add_eos_token", adds_eos);
  if (tokenizer.chat_template()) keys.text("tokenizer.chat_template", *tokenizer.chat_template());
}

void compare_tokenizers(const TextFiles& texts, const TextFiles& written) {
  const Tokenizer ours = Tokenizer::load(texts);
  const Tokenizer theirs = Tokenizer::load(written);
  const auto compare = [&](std::string_view text) {
    if (ours.encode(text, true) == theirs.encode(text, true)) return;
    throw UnsupportedError(texts.place(file_name),
                           fmt::format("cuts {} into other tokens than its form in GGUF does", Json(text).dump()),
                           "llama.cpp would not read texts as the model does");
  };
  for (const std::string_view text : samples) compare(text);
  if (ours.chat_template()) compare(*ours.chat_template());
  if (ours.chat_template() != theirs.chat_template()) {
    throw UnsupportedError(texts.place("tokenizer_config.json"), "the chat template did not survive", no_such);
  }
}

}  // namespace pq::exchange
