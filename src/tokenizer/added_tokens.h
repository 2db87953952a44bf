#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tokenizer/normalizer.h"
#include "tokenizer/token_table.h"

namespace pq {

/// One entry of "added_tokens".
struct AddedToken {
  std::string content;
  /// What decoding starts from: the normalized content for a normalized token.
  std::string pattern;
  std::int32_t id = -1;
  bool single_word = false;  // only where no word character touches it
  bool lstrip = false;       // takes the white space on its left with it
  bool rstrip = false;
  bool normalized = false;  // looked for after normalization, in its own normalized form
  bool special = false;     // left out by decode(skip_special_tokens)
};

/// The added tokens of a tokenizer.json (Hugging Face tokenizers, tokenizer/added_vocabulary.rs).
class AddedTokens {
 public:
  /// A part of a text: an added token (id >= 0) or what lies between two.
  struct Segment {
    std::int32_t id;
    std::size_t begin;
    std::size_t end;
  };

  AddedTokens() = default;
  /// `root` is the whole file. Throws FormatError: an id other than the one its place in the list gives, two tokens
  /// that are one after normalization.
  AddedTokens(const JsonFields& root, const TokenTable& vocab, const Normalizer& normalizer);

  /// Segments of the raw text (tokens that are not normalized) or of a normalized text (the others).
  /// Of several tokens the leftmost counts, of several at one place the longest.
  void split(std::string_view text, bool normalized, std::vector<Segment>& segments) const;

  /// The token with this id, or nullptr.
  const AddedToken* find(std::int32_t id) const;
  const AddedToken* find(std::string_view content) const;
  /// One more than the largest id, 0 when there is none.
  std::size_t id_end() const noexcept { return id_end_; }

 private:
  /// Every token's bytes as a path from node 0.
  struct Trie {
    struct Node {
      std::int32_t id = -1;
      std::vector<std::pair<unsigned char, std::int32_t>> next;
    };
    std::vector<Node> nodes{1};
    std::array<bool, 256> starts{};
    /// Returns false when the pattern is there already.
    bool add(std::string_view pattern, std::int32_t id);
    /// Length and id of the longest token at the front of `text`; id -1 when none is.
    std::pair<std::size_t, std::int32_t> longest(std::string_view text) const;
  };
  std::unordered_map<std::int32_t, AddedToken> by_id_;
  std::unordered_map<std::string, std::int32_t> ids_;
  Trie raw_;
  Trie normalized_;
  std::size_t id_end_ = 0;
};

}  // namespace pq
