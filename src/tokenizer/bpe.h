#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/merge_list.h"
#include "tokenizer/token_table.h"

namespace pq {

/// The fields of "model" besides vocab and merges (Hugging Face tokenizers, models/bpe).
struct BpeOptions {
  std::optional<std::string> unk_token;
  bool fuse_unk = false;       // one unk_token for a run of unknown characters
  bool byte_fallback = false;  // an unknown character becomes its bytes, <0xNN> each, if all of them are tokens
  bool ignore_merges = false;  // a word that is a token stays whole
};

/// A hash table from pairs of token ids (open addressing, at most half full).
template <typename Value>
class PairTable {
 public:
  explicit PairTable(std::size_t capacity) : slots_(std::bit_ceil(std::max<std::size_t>(capacity * 2, 16))) {}
  /// Of two values for one pair the later counts.
  void set(std::int32_t left, std::int32_t right, Value value) {
    slots_[slot_of(key(left, right))] = {key(left, right), value};
  }
  /// nullptr when the pair is not there.
  const Value* find(std::int32_t left, std::int32_t right) const noexcept {
    const Slot& slot = slots_[slot_of(key(left, right))];
    return slot.pair == free_pair ? nullptr : &slot.value;
  }

 private:
  static constexpr std::uint64_t free_pair = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t pair = free_pair;
    Value value{};
  };
  static std::uint64_t key(std::int32_t left, std::int32_t right) noexcept {
    return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) | static_cast<std::uint32_t>(right);
  }
  std::size_t slot_of(std::uint64_t pair) const noexcept {
    const std::size_t mask = slots_.size() - 1;
    const std::uint64_t mixed = pair * 0x9e3779b97f4a7c15U;
    std::size_t slot = static_cast<std::size_t>(mixed ^ (mixed >> 32)) & mask;
    while (slots_[slot].pair != free_pair && slots_[slot].pair != pair) slot = (slot + 1) & mask;
    return slot;
  }
  std::vector<Slot> slots_;
};

/// Byte pair encoding (Sennrich et al. 2016): the pair of lowest rank is merged first, the leftmost of equals first.
class BpeModel {
 public:
  /// Throws FormatError when a merge names an unknown token.
  BpeModel(TokenTable vocab, const MergeList& merges, BpeOptions options, std::string_view where);

  const TokenTable& vocab() const noexcept { return vocab_; }

  /// Memory that one caller reuses from word to word.
  struct Scratch {
    struct Symbol {
      std::int32_t id;  // -1: merged into its left neighbour
      std::int32_t previous;
      std::int32_t next;
    };
    struct Candidate {
      std::uint64_t rank_and_position;
      std::int32_t id;  // of the merged token
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  /// Appends the ids of one word, valid UTF-8 of less than 2^31 bytes; O(n log n) in its length n.
  /// Throws FormatError when an unknown character needs an unk_token that is not in the vocabulary.
  void encode(std::string_view word, Scratch& scratch, std::vector<std::int32_t>& ids) const;

 private:
  struct Merge {
    std::uint32_t rank;
    std::int32_t id;  // of the merged token
  };
  struct Joined {};
  void add_merges(const MergeList& merges);
  void add_junctions(const MergeList& merges);
  /// Id of the first character of `text` as a token, or -1.
  std::int32_t character_id(std::string_view text) const noexcept;
  void split_into_symbols(std::string_view word, Scratch& scratch) const;
  /// Merges the symbols [begin, end), which are linked among themselves only.
  void merge_symbols(Scratch& scratch, std::int32_t begin, std::int32_t end) const;

  TokenTable vocab_;
  BpeOptions options_;
  std::string where_;
  PairTable<Merge> merges_;
  /// Pairs of characters that some merge joins. A word falls apart at all others, which matters where a whole text is
  /// one.
  PairTable<Joined> junctions_;
  bool has_junctions_ = true;
  std::vector<std::int32_t> short_characters_;  // id of each code point below its size, or -1
  std::array<std::int32_t, 256> byte_ids_{};    // id of <0xNN>, or -1
  std::int32_t unk_id_ = -1;
};

}  // namespace pq
