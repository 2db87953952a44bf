#include "io/gguf_tokenizer.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cctype>
#include <cmath>
#include <iterator>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "base/parallel_for.h"
#include "io/gguf_vocabulary.h"

namespace pq::io {
namespace {

constexpr std::string_view tokens_key = "tokenizer.ggml.tokens";
constexpr std::string_view types_key = "tokenizer.ggml.token_type";
constexpr std::string_view scores_key = "tokenizer.ggml.scores";
constexpr std::string_view merges_key = "tokenizer.ggml.merges";

const PreTokenizerRow& pre_tokenizer(const GgufMetadata& metadata) {
  const std::string name = metadata.text("tokenizer.ggml.pre").value_or("");
  std::string known;
  if (const PreTokenizerRow* row = find_pre_tokenizer(name)) return *row;
  for (const PreTokenizerRow& row : pre_tokenizer_rows()) {
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
    required_array(metadata, tokens_key, true).for_each_string([&](std::string_view token) {
      tokens.push_back(token);
    });
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
  std::size_t begin = 0;  // of what is not yet appended
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c != '"' && c != '\\' && static_cast<unsigned char>(c) >= 0x20) continue;
    out += text.substr(begin, i - begin);
    out += static_cast<unsigned char>(c) < 0x20 ? fmt::format("\\u{:04x}", static_cast<unsigned>(c))
                                                : std::string{'\\', c};
    begin = i + 1;
  }
  out += text.substr(begin);
  out += '"';
}

std::size_t code_points(std::string_view text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0U) != 0x80U; }));
}

/// Ids by text, open addressing: a vocabulary is asked some millions of times.
class TokenIndex {
 public:
  static constexpr std::uint32_t none = ~std::uint32_t{0};

  explicit TokenIndex(const std::vector<std::string_view>& tokens)
      : tokens_(tokens), slots_(std::bit_ceil(2 * tokens.size() + 2), none) {
    for (std::size_t id = 0; id < tokens.size(); ++id) {
      std::uint32_t& slot = slots_[place(tokens[id])];
      if (slot == none) slot = static_cast<std::uint32_t>(id);
    }
  }
  std::uint32_t find(std::string_view text) const { return slots_[place(text)]; }

 private:
  std::size_t place(std::string_view text) const {
    std::size_t at = ::XXH3_64bits(text.data(), text.size()) & (slots_.size() - 1);
    while (slots_[at] != none && tokens_[slots_[at]] != text) at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  const std::vector<std::string_view>& tokens_;
  std::vector<std::uint32_t> slots_;
};

struct Merge {
  std::uint32_t token, left, right;
};

/// Every way to put a token together of two others, token by token.
std::vector<std::vector<Merge>> merges_of_tokens(const Vocab& vocab) {
  const TokenIndex ids(vocab.tokens);
  std::vector<std::vector<Merge>> merges(vocab.tokens.size());
  parallel_for(vocab.tokens.size(), 4096, [&](std::size_t begin, std::size_t end) {
    for (std::size_t id = begin; id < end; ++id) {
      if (vocab.types[id] != TokenType::normal && vocab.types[id] != TokenType::user_defined) continue;
      const std::string_view token = vocab.tokens[id];
      for (std::size_t cut = 1; cut < token.size(); ++cut) {
        if ((static_cast<unsigned char>(token[cut]) & 0xC0U) == 0x80U) continue;
        const std::uint32_t left = ids.find(token.substr(0, cut));
        if (left == TokenIndex::none) continue;
        const std::uint32_t right = ids.find(token.substr(cut));
        if (right == TokenIndex::none) continue;
        merges[id].push_back({static_cast<std::uint32_t>(id), left, right});
      }
    }
  });
  return merges;
}

/// Merges, first the one that is applied first, in the order of Hugging Face's converter of SentencePiece models
/// (convert_slow_tokenizer.py, generate_merges): by the token's score and then by the lengths of the parts.
std::vector<Merge> merges_of_scores(const GgufMetadata& metadata, const Vocab& vocab) {
  const GgufArray numbers = required_array(metadata, scores_key, false);
  std::vector<double> scores(vocab.tokens.size());
  std::vector<std::uint32_t> order(vocab.tokens.size());
  for (std::size_t id = 0; id < scores.size(); ++id) {
    scores[id] = numbers.number(id);
    if (std::isnan(scores[id])) metadata.fail(scores_key, fmt::format("gives token {} no number", id));
    order[id] = static_cast<std::uint32_t>(id);
  }
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return scores[a] > scores[b]; });
  const std::vector<std::vector<Merge>> by_token = merges_of_tokens(vocab);

  std::vector<Merge> merges;
  std::size_t runs_with_normal_tokens = 0;
  for (std::size_t begin = 0; begin < order.size();) {
    std::size_t end = begin;
    const std::size_t first = merges.size();
    bool normal = false;
    for (; end < order.size() && scores[order[end]] == scores[order[begin]]; ++end) {
      merges.insert(merges.end(), by_token[order[end]].begin(), by_token[order[end]].end());
      normal |= vocab.types[order[end]] == TokenType::normal;
    }
    runs_with_normal_tokens += normal ? 1 : 0;
    const auto lengths = [&](const Merge& merge) {
      return std::pair(code_points(vocab.tokens[merge.left]), code_points(vocab.tokens[merge.right]));
    };
    std::stable_sort(
        merges.begin() + static_cast<std::ptrdiff_t>(first), merges.end(), [&](const Merge& a, const Merge& b) {
          const auto left = lengths(a);
          const auto right = lengths(b);
          return left != right ? left > right : std::tie(a.token, a.left, a.right) < std::tie(b.token, b.left, b.right);
        });
    begin = end;
  }
  if (runs_with_normal_tokens < 2 && vocab.tokens.size() > 1) {
    metadata.fail(scores_key, "gives every token the same score, so that tokens cannot be found as the model's own do");
  }
  return merges;
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
  if (*id < 0 || *id >= static_cast<std::int64_t>(vocab.tokens.size()))
    metadata.fail(key, "is no id of the vocabulary");
  return std::string(vocab.tokens[static_cast<std::size_t>(*id)]);
}

bool adds_bos(const GgufMetadata& metadata) {
  const bool by_default =
      vocabulary_kind(metadata) == Vocabulary::sentence_piece || pre_tokenizer(metadata).bos_by_default;
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
    fmt::format_to(std::back_inserter(text), ":{}", id);
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
    for (const Merge& merge : merges_of_scores(metadata, vocab)) {
      text += comma;
      text += '[';
      append_text(text, vocab.tokens[merge.left]);
      text += ',';
      append_text(text, vocab.tokens[merge.right]);
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
  for (const auto& [key, name] :
       {std::pair("bos_token", "bos"), {"eos_token", "eos"}, {"unk_token", "unknown"}, {"pad_token", "padding"}}) {
    if (const auto token = special_text(metadata, vocab, name)) json[key] = *token;
  }
  json["tokenizer_class"] = "PreTrainedTokenizerFast";
  if (const auto chat = metadata.text("tokenizer.chat_template")) json["chat_template"] = *chat;
  return json;
}

}  // namespace pq::io
