#include "tokenizer/bpe.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>
#include <utility>

#include "base/error.h"
#include "text/unicode.h"

namespace pq {
namespace {

constexpr char32_t short_character_end = 0x3000;

/// Orders a std heap with the lowest rank, then the leftmost position, on top.
bool later(const BpeModel::Scratch::Candidate& a, const BpeModel::Scratch::Candidate& b) noexcept {
  return a.rank_and_position > b.rank_and_position;
}

}  // namespace

BpeModel::BpeModel(TokenTable vocab, const MergeList& merges, BpeOptions options, std::string_view where)
    : vocab_(std::move(vocab)),
      options_(std::move(options)),
      where_(where),
      merges_(merges.size()),
      junctions_(merges.size()),
      short_characters_(short_character_end) {
  if (merges.size() >= std::numeric_limits<std::uint32_t>::max()) throw UnsupportedError(where, "too many merges");
  for (char32_t c = 0; c < short_character_end; ++c) {
    std::string text;
    append_utf8(text, c);
    short_characters_[c] = vocab_.find(text);
  }
  for (std::size_t byte = 0; byte < 256; ++byte) byte_ids_[byte] = vocab_.find(fmt::format("<0x{:02X}>", byte));
  if (options_.unk_token) unk_id_ = vocab_.find(*options_.unk_token);
  add_merges(merges);
  add_junctions(merges);
}

void BpeModel::add_merges(const MergeList& merges) {
  std::string joined;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    joined.assign(merges.left(rank)).append(merges.right(rank));
    std::array<std::int32_t, 3> ids{};
    const std::array<std::string_view, 3> texts = {merges.left(rank), merges.right(rank), joined};
    for (std::size_t i = 0; i < 3; ++i) {
      ids[i] = vocab_.find(texts[i]);
      if (ids[i] >= 0) continue;
      throw FormatError(
          where_,
          fmt::format("entry {} of model.merges needs the token '{}', which is not in model.vocab", rank, texts[i]),
          "download the file again");
    }
    merges_.set(ids[0], ids[1], {static_cast<std::uint32_t>(rank), ids[2]});
  }
}

void BpeModel::add_junctions(const MergeList& merges) {
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    for (const std::string_view part : {merges.left(rank), merges.right(rank)}) {
      // Symbols that are not characters of the text: where a merge uses them, its parts' ends do not tell the junction.
      const bool is_byte = part.size() == 6 && part.starts_with("<0x");
      if (part.empty() || is_byte || part == options_.unk_token) {
        has_junctions_ = false;
        return;
      }
    }
    junctions_.set(character_id(last_character(merges.left(rank))), character_id(merges.right(rank)), {});
  }
}

std::int32_t BpeModel::character_id(std::string_view text) const noexcept {
  const char32_t c = first_code_point(text);
  return c < short_character_end ? short_characters_[c] : vocab_.find(text.substr(0, utf8_length(text[0])));
}

void BpeModel::split_into_symbols(std::string_view word, Scratch& scratch) const {
  auto& symbols = scratch.symbols;
  symbols.clear();
  const auto add = [&symbols](std::int32_t id) {
    const auto position = static_cast<std::int32_t>(symbols.size());
    symbols.push_back({id, position - 1, position + 1});
  };
  // An unk waits until the next known character, even while bytes are added behind it: so does the library.
  bool unk_waits = false;
  for (std::size_t at = 0; at < word.size();) {
    const std::string_view character = word.substr(at, utf8_length(word[at]));
    at += character.size();
    const std::int32_t id = character_id(character);
    if (id >= 0) {
      if (std::exchange(unk_waits, false)) add(unk_id_);
      add(id);
      continue;
    }
    const auto byte_id = [this](char c) { return byte_ids_[static_cast<unsigned char>(c)]; };
    if (options_.byte_fallback &&
        std::all_of(character.begin(), character.end(), [&](char c) { return byte_id(c) >= 0; })) {
      for (const char c : character) add(byte_id(c));
      continue;
    }
    if (!options_.unk_token) continue;
    if (unk_id_ < 0) {
      throw FormatError(
          where_,
          fmt::format("the text holds '{}', and unk_token '{}' is not in model.vocab", character, *options_.unk_token),
          "download the file again");
    }
    if (unk_waits && !options_.fuse_unk) add(unk_id_);
    unk_waits = true;
  }
  if (unk_waits) add(unk_id_);
}

void BpeModel::merge_symbols(Scratch& scratch, std::int32_t begin, std::int32_t end) const {
  auto& symbols = scratch.symbols;
  auto& heap = scratch.heap;
  heap.clear();
  symbols[static_cast<std::size_t>(begin)].previous = -1;
  symbols[static_cast<std::size_t>(end) - 1].next = -1;
  const auto candidate = [&](std::int32_t position) -> const Merge* {
    const auto& left = symbols[static_cast<std::size_t>(position)];
    return left.next < 0 ? nullptr : merges_.find(left.id, symbols[static_cast<std::size_t>(left.next)].id);
  };
  const auto entry = [](const Merge& merge, std::int32_t position) {
    return Scratch::Candidate{(std::uint64_t{merge.rank} << 32) | static_cast<std::uint32_t>(position), merge.id};
  };
  for (std::int32_t position = begin; position < end; ++position) {
    if (const Merge* merge = candidate(position)) heap.push_back(entry(*merge, position));
  }
  std::make_heap(heap.begin(), heap.end(), later);
  const auto push = [&](std::int32_t position) {
    if (const Merge* merge = candidate(position)) {
      heap.push_back(entry(*merge, position));
      std::push_heap(heap.begin(), heap.end(), later);
    }
  };
  while (!heap.empty()) {
    const Scratch::Candidate top = heap.front();
    std::pop_heap(heap.begin(), heap.end(), later);
    heap.pop_back();
    const auto position = static_cast<std::int32_t>(top.rank_and_position & 0xffffffffU);
    auto& left = symbols[static_cast<std::size_t>(position)];
    if (left.id < 0) continue;
    const Merge* merge = candidate(position);
    if (merge == nullptr || merge->id != top.id) continue;  // one of the two has been merged since
    auto& right = symbols[static_cast<std::size_t>(left.next)];
    left.id = merge->id;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) symbols[static_cast<std::size_t>(left.next)].previous = position;
    if (left.previous >= 0) push(left.previous);
    push(position);
  }
}

void BpeModel::encode(std::string_view word, Scratch& scratch, std::vector<std::int32_t>& ids) const {
  if (options_.ignore_merges) {
    if (const std::int32_t id = vocab_.find(word); id >= 0) {
      ids.push_back(id);
      return;
    }
  }
  split_into_symbols(word, scratch);
  const auto& symbols = scratch.symbols;
  for (std::size_t begin = 0, end = 1; end <= symbols.size(); ++end) {
    if (end < symbols.size() && (!has_junctions_ || junctions_.find(symbols[end - 1].id, symbols[end].id) != nullptr))
      continue;
    if (end - begin > 1) merge_symbols(scratch, static_cast<std::int32_t>(begin), static_cast<std::int32_t>(end));
    begin = end;
  }
  for (const auto& symbol : symbols) {
    if (symbol.id >= 0) ids.push_back(symbol.id);
  }
}

}  // namespace pq
