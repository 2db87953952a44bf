#include "io/gguf_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "base/error.h"

namespace pq::io {
namespace {

constexpr std::string_view tokens_key = "tokenizer.ggml.tokens";
constexpr std::string_view types_key = "tokenizer.ggml.token_type";
constexpr std::string_view scores_key = "tokenizer.ggml.scores";
constexpr std::string_view merges_key = "tokenizer.ggml.merges";

/// `tokenizer.ggml.token_type`.
enum class TokenType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

/// Where a pre-tokenizer cuts: by one pattern, or by GPT-2's own.
struct PreTokenizerRow {
  std::string_view names;  ///< of tokenizer.ggml.pre, with spaces between
  std::string_view pattern;
  bool digits = false;  ///< every digit stands alone first
  bool nfc = false;
  bool ignore_merges = false;  ///< a word that is a token is taken whole
  bool bos_by_default = false;
};

constexpr std::string_view llama3_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view qwen2_pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view tekken_pattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view gpt4o_pattern =
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::array<PreTokenizerRow, 8> pre_tokenizers{{
    {.names = "llama-bpe llama3 llama-v3 falcon3 pixtral", .pattern = llama3_pattern, .ignore_merges = true, .bos_by_default = true},
    {.names = "smaug-bpe dbrx", .pattern = llama3_pattern},
    {.names = "qwen2 deepseek-r1-qwen megrez", .pattern = qwen2_pattern, .nfc = true},
    {.names = "stablelm2", .pattern = qwen2_pattern},
    {.names = "tekken", .pattern = tekken_pattern, .ignore_merges = true, .bos_by_default = true},
    {.names = "gpt-4o", .pattern = gpt4o_pattern},
    {.names = "smollm starcoder refact", .pattern = {}, .digits = true},
    {.names = "gpt-2 olmo", .pattern = {}},
}};

bool names_contain(std::string_view names, std::string_view name) {
  return !name.empty() && name.find(' ') == std::string_view::npos &&
         fmt::format(" {} ", names).find(fmt::format(" {} ", name)) != std::string::npos;
}

const PreTokenizerRow& pre_tokenizer(const GgufMetadata& metadata) {
  const std::string name = metadata.text("tokenizer.ggml.pre").value_or("");
  std::string known;
  for (const PreTokenizerRow& row : pre_tokenizers) {
    if (names_contain(row.names, name)) return row;
    known += fmt::format("{}{}", known.empty() ? "" : " ", row.names);
  }
  throw UnsupportedError(metadata.file().file(),
                         name.empty() ? std::string("does not name its pre-tokenizer (tokenizer.ggml.pre)")
                                      : fmt::format("pre-tokenizer '{}' is not known", name),
                         fmt::format("known: {}", known));
}

enum class Vocabulary { byte_level, sentence_piece };

Vocabulary vocabulary_kind(const GgufMetadata& metadata) {
  const auto model = metadata.text("tokenizer.ggml.model");
  if (!model) metadata.fail("tokenizer.ggml.model", "is missing");
  if (*model == "gpt2") return Vocabulary::byte_level;
  if (*model == "llama") return Vocabulary::sentence_piece;
  throw UnsupportedError(metadata.file().file(), fmt::format("tokenizer of kind '{}' is not supported", *model),
                         "gpt2 (byte-level BPE) and llama (SentencePiece BPE) are");
}

GgufArray required_array(const GgufMetadata& metadata, std::string_view key, bool strings) {
  const auto array = metadata.array(key);
  if (!array) metadata.fail(key, "is missing");
  if ((array->type == GgufType::string) != strings) metadata.fail(key, strings ? "does not hold texts" : "holds texts");
  return *array;
}

struct Vocab {
  explicit Vocab(const GgufMetadata& metadata) {
    required_array(metadata, tokens_key, true).for_each_string([&](std::string_view token) { tokens.push_back(token); });
    types.assign(tokens.size(), TokenType::normal);
    if (!metadata.has(types_key)) return;
    const GgufArray numbers = required_array(metadata, types_key, false);
    for (std::size_t id = 0; id < tokens.size(); ++id) types[id] = static_cast<TokenType>(numbers.number(id));
  }

  std::vector<std::string_view> tokens;
  std::vector<TokenType> types;
};

void append_text(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    } else {
      out += c;
    }
  }
  out += '"';
}

std::size_t code_points(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

/// "a b" of every merge, first the one that is applied first, in the order of Hugging Face's converter of SentencePiece
/// models (convert_slow_tokenizer.py, generate_merges): every way to put a token together of two others, by the
/// token's score and then by the lengths of the parts.
std::vector<std::pair<std::string_view, std::string_view>> merges_of_scores(const GgufMetadata& metadata,
                                                                            const Vocab& vocab) {
  const GgufArray scores = required_array(metadata, scores_key, false);
  std::unordered_map<std::string_view, std::size_t> ids;
  ids.reserve(vocab.tokens.size());
  for (std::size_t id = 0; id < vocab.tokens.size(); ++id) ids.emplace(vocab.tokens[id], id);
  struct Merge {
    double score;
    std::size_t left_length, right_length;
    std::size_t token, left, right;
  };
  std::vector<Merge> merges;
  bool ordered = false;
  std::optional<double> first_score;
  for (std::size_t id = 0; id < vocab.tokens.size(); ++id) {
    const TokenType type = vocab.types[id];
    if (type != TokenType::normal && type != TokenType::user_defined) continue;
    const std::string_view token = vocab.tokens[id];
    const double score = scores.number(id);
    if (type == TokenType::normal) {
      if (!first_score) first_score = score;
      ordered |= score != *first_score;
    }
    for (std::size_t cut = 1; cut < token.size(); ++cut) {
      if ((static_cast<unsigned char>(token[cut]) & 0xC0U) == 0x80U) continue;
      const auto left = ids.find(token.substr(0, cut));
      if (left == ids.end()) continue;
      const auto right = ids.find(token.substr(cut));
      if (right == ids.end()) continue;
      merges.push_back({score, code_points(left->first), code_points(right->first), id, left->second, right->second});
    }
  }
  if (!ordered && vocab.tokens.size() > 1) {
    metadata.fail(scores_key, "gives every token the same score, so that tokens cannot be found as the model's own do");
  }
  std::sort(merges.begin(), merges.end(), [](const Merge& a, const Merge& b) {
    return std::tie(b.score, b.left_length, b.right_length, a.token, a.left, a.right) <
           std::tie(a.score, a.left_length, a.right_length, b.token, b.left, b.right);
  });
  std::vector<std::pair<std::string_view, std::string_view>> texts;
  texts.reserve(merges.size());
  for (const Merge& merge : merges) texts.emplace_back(vocab.tokens[merge.left], vocab.tokens[merge.right]);
  return texts;
}

Json split_by(std::string_view pattern) {
  return {{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
}

Json byte_level(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

/// normalizer, pre_tokenizer and decoder of byte-level BPE.
void add_byte_level_steps(Json& json, const PreTokenizerRow& row) {
  json["normalizer"] = row.nfc ? Json{{"type", "NFC"}} : Json();
  Json steps = Json::array();
  if (row.digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  if (!row.pattern.empty()) steps.push_back(split_by(row.pattern));
  steps.push_back(byte_level(row.pattern.empty()));
  json["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", steps}};
  json["decoder"] = byte_level(true);
}

/// The same of SentencePiece's BPE with byte fallback.
void add_sentence_piece_steps(Json& json, bool space_prefix) {
  constexpr const char* space = "\u2581";
  const Json replace{{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", space}};
  Json normalizers = Json::array({replace});
  Json decoders = Json::array({Json{{"type", "Replace"}, {"pattern", {{"String", space}}}, {"content", " "}},
                               Json{{"type", "ByteFallback"}}, Json{{"type", "Fuse"}}});
  if (space_prefix) {
    normalizers.insert(normalizers.begin(), Json{{"type", "Prepend"}, {"prepend", space}});
    decoders.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  json["normalizer"] = {{"type", "Sequence"}, {"normalizers", normalizers}};
  json["pre_tokenizer"] = Json();
  json["decoder"] = {{"type", "Sequence"}, {"decoders", decoders}};
}

/// Phi-3 strips what follows its chat markers, which GGUF does not say; llama.cpp knows it by the model's name, too.
bool strips_right(const GgufMetadata& metadata, std::string_view token) {
  std::string name = metadata.text("general.name").value_or("");
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
  if (name.find("phi-3") == std::string::npos && name.find("phi3") == std::string::npos) return false;
  return token != "<unk>" && token != "<s>" && token != "<|endoftext|>";
}

Json added_tokens(const GgufMetadata& metadata, const Vocab& vocab) {
  Json added = Json::array();
  for (std::size_t id = 0; id < vocab.tokens.size(); ++id) {
    const TokenType type = vocab.types[id];
    const bool special = type == TokenType::control || type == TokenType::unknown;
    if (!special && type != TokenType::user_defined) continue;
    added.push_back({{"id", id},
                     {"content", vocab.tokens[id]},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", type == TokenType::control && strips_right(metadata, vocab.tokens[id])},
                     {"normalized", false},
                     {"special", special}});
  }
  return added;
}

std::optional<std::string> special_text(const GgufMetadata& metadata, const Vocab& vocab, std::string_view name) {
  const std::string key = fmt::format("tokenizer.ggml.{}_token_id", name);
  const auto id = metadata.integer(key);
  if (!id) return std::nullopt;
  if (*id < 0 || *id >= static_cast<std::int64_t>(vocab.tokens.size())) metadata.fail(key, "is no id of the vocabulary");
  return std::string(vocab.tokens[static_cast<std::size_t>(*id)]);
}

bool adds_bos(const GgufMetadata& metadata) {
  const bool by_default = vocabulary_kind(metadata) == Vocabulary::sentence_piece || pre_tokenizer(metadata).bos_by_default;
  return metadata.boolean("tokenizer.ggml.add_bos_token").value_or(by_default);
}

Json post_processor(const GgufMetadata& metadata, const Vocab& vocab) {
  const auto bos = adds_bos(metadata) ? special_text(metadata, vocab, "bos") : std::nullopt;
  const bool adds_eos = metadata.boolean("tokenizer.ggml.add_eos_token").value_or(false);
  const auto eos = adds_eos ? special_text(metadata, vocab, "eos") : std::nullopt;
  if (!bos && !eos) return {};
  Json single = Json::array();
  Json special = Json::object();
  const auto add = [&](const std::string& token, std::string_view name) {
    single.push_back({{"SpecialToken", {{"id", token}, {"type_id", 0}}}});
    const auto id = metadata.integer(fmt::format("tokenizer.ggml.{}_token_id", name));
    special[token] = {{"id", token}, {"ids", Json::array({*id})}, {"tokens", Json::array({token})}};
  };
  if (bos) add(*bos, "bos");
  single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  if (eos) add(*eos, "eos");
  Json pair = single;
  for (const Json& part : single) {
    Json second = part;
    Json& value = second.front();
    value["type_id"] = 1;
    if (second.contains("Sequence")) value["id"] = "B";
    pair.push_back(second);
  }
  return {{"type", "TemplateProcessing"}, {"single", single}, {"pair", pair}, {"special_tokens", special}};
}

}  // namespace

void check_gguf_tokenizer(const GgufMetadata& metadata) {
  const bool bytes = vocabulary_kind(metadata) == Vocabulary::byte_level;
  if (bytes) pre_tokenizer(metadata);
  const GgufArray tokens = required_array(metadata, tokens_key, true);
  if (bytes) required_array(metadata, merges_key, true);
  for (const std::string_view key : {types_key, bytes ? types_key : scores_key}) {
    if (key == types_key && !metadata.has(key)) continue;
    if (required_array(metadata, key, false).count < tokens.count) {
      metadata.fail(key, fmt::format("has fewer elements than the vocabulary ({})", tokens.count));
    }
  }
}

std::string gguf_tokenizer_json(const GgufMetadata& metadata) {
  check_gguf_tokenizer(metadata);
  const bool bytes = vocabulary_kind(metadata) == Vocabulary::byte_level;
  const Vocab vocab(metadata);
  Json json{{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  json["added_tokens"] = added_tokens(metadata, vocab);
  if (bytes) {
    add_byte_level_steps(json, pre_tokenizer(metadata));
  } else {
    add_sentence_piece_steps(json, metadata.boolean("tokenizer.ggml.add_space_prefix").value_or(true));
  }
  json["post_processor"] = post_processor(metadata, vocab);
  const auto unknown = bytes ? std::nullopt : special_text(metadata, vocab, "unknown");
  Json model{{"type", "BPE"},
             {"dropout", nullptr},
             {"unk_token", unknown ? Json(*unknown) : Json()},
             {"continuing_subword_prefix", nullptr},
             {"end_of_word_suffix", nullptr},
             {"fuse_unk", !bytes},
             {"byte_fallback", !bytes},
             {"ignore_merges", bytes && pre_tokenizer(metadata).ignore_merges}};

  // The two long parts as text: a tree of them would take most of the time.
  std::string text;
  try {
    text = json.dump();
    text.pop_back();
    text += ",\"model\":" + model.dump();
  } catch (const Json::exception&) {
    metadata.fail(tokens_key, "holds a special token that is not valid UTF-8");
  }
  text.pop_back();
  text += ",\"vocab\":{";
  const char* comma = "";
  for (std::size_t id = 0; id < vocab.tokens.size(); ++id) {
    if (vocab.types[id] == TokenType::unused) continue;
    text += comma;
    append_text(text, vocab.tokens[id]);
    text += fmt::format(":{}", id);
    comma = ",";
  }
  text += "},\"merges\":[";
  comma = "";
  if (bytes) {
    required_array(metadata, merges_key, true).for_each_string([&](std::string_view merge) {
      text += comma;
      append_text(text, merge);
      comma = ",";
    });
  } else {
    for (const auto& [left, right] : merges_of_scores(metadata, vocab)) {
      text += comma;
      text += '[';
      append_text(text, left);
      text += ',';
      append_text(text, right);
      text += ']';
      comma = ",";
    }
  }
  text += "]}}";
  return text;
}

Json gguf_tokenizer_config(const GgufMetadata& metadata) {
  const Vocab vocab(metadata);
  Json json{{"add_bos_token", adds_bos(metadata)},
            {"add_eos_token", metadata.boolean("tokenizer.ggml.add_eos_token").value_or(false)}};
  for (const auto& [key, name] : {std::pair("bos_token", "bos"), {"eos_token", "eos"}, {"unk_token", "unknown"}, {"pad_token", "padding"}}) {
    if (const auto token = special_text(metadata, vocab, name)) json[key] = *token;
  }
  json["tokenizer_class"] = "PreTrainedTokenizerFast";
  if (const auto chat = metadata.text("tokenizer.chat_template")) json["chat_template"] = *chat;
  return json;
}

}  // namespace pq::io
