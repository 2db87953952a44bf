#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pq {

class TextFiles;
struct TokenizerParts;

/// Text to token ids and back, as Hugging Face `tokenizers` does it for a tokenizer.json of model type BPE.
/// A value: copies share the immutable tables. All members are const and thread-safe.
class Tokenizer {
 public:
  /// Reads tokenizer.json of `model_dir`, and for bos_id(), eos_id() and chat_template() whichever of
  /// tokenizer_config.json, special_tokens_map.json, generation_config.json and chat_template.jinja are there. Throws
  /// InputError (no tokenizer.json), FormatError (damaged, contradicts itself), UnsupportedError (a part of the format,
  /// named, that is not computed here).
  static Tokenizer load(const std::filesystem::path& model_dir);
  /// The same of files that may stand in memory.
  static Tokenizer load(const TextFiles& files);
  /// The same from the text of a tokenizer.json; `where` names it in errors. The BOS is what the post-processor puts in
  /// front.
  static Tokenizer parse(std::string_view tokenizer_json, std::string_view where);

  /// Equals `encode(text, add_special_tokens=...).ids` of the library. Special tokens written out in the text are
  /// found. Throws InputError (not UTF-8: names the byte; more than 1 GiB), FormatError and UnsupportedError for faults
  /// of tokenizer.json that only this text meets.
  std::vector<std::int32_t> encode(std::string_view utf8, bool add_special_tokens) const;

  /// Equals `decode(ids, skip_special_tokens=...)` of the library: ids without a token give nothing, invalid UTF-8
  /// gives U+FFFD. (One difference: special tokens that are "normalized" are left out too, which the library forgets.)
  std::string decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const;

  /// One token for people: its text with \n, \t, \r and other control characters and bytes escaped; "<id 7>" without a
  /// token.
  std::string token_text(std::int32_t id) const;

  /// The id of a token as tokenizer.json spells it ("Ġthe", "<s>").
  std::optional<std::int32_t> id_of(std::string_view token) const;
  /// Whether the id is an added token marked special.
  bool is_special(std::int32_t id) const;
  /// One more than the largest id. The model's vocabulary may be padded beyond it.
  std::size_t vocab_size() const;

  std::optional<std::int32_t> bos_id() const;
  std::optional<std::int32_t> eos_id() const;
  /// Whether encode(text, true) puts the BOS in front.
  bool adds_bos() const;
  /// The Jinja text, not interpreted.
  const std::optional<std::string>& chat_template() const;

 private:
  friend class StreamDecoder;
  explicit Tokenizer(std::shared_ptr<const TokenizerParts> parts) : parts_(std::move(parts)) {}

  std::shared_ptr<const TokenizerParts> parts_;
};

/// decode() one id at a time. The pieces, finish() included, join up to decode() of all ids, except that a run of byte
/// tokens that is not UTF-8 as a whole shows the characters in it that are.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens);
  ~StreamDecoder();
  StreamDecoder(StreamDecoder&&) noexcept;
  StreamDecoder& operator=(StreamDecoder&&) noexcept;

  /// The text that is complete now; an incomplete UTF-8 sequence waits.
  std::string push(std::int32_t id);
  /// What is left at the end of the text. Nothing may be pushed afterwards.
  std::string finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace pq
