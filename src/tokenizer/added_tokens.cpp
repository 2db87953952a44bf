#include "tokenizer/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace pq {
namespace {

constexpr std::size_t max_added_tokens = 1'000'000;

/// Where the white space at the end of `text` begins.
std::size_t trailing_space(std::string_view text) {
  while (!text.empty() && is_white_space(first_code_point(last_character(text)))) {
    text.remove_suffix(last_character(text).size());
  }
  return text.size();
}

/// Length of the white space at the front of `text`.
std::size_t leading_space(std::string_view text) {
  std::size_t length = 0;
  while (length < text.size() && is_white_space(first_code_point(text.substr(length))))
    length += utf8_length(text[length]);
  return length;
}

bool stands_alone(std::string_view text, std::size_t begin, std::size_t end) {
  return (begin == 0 || !is_word(first_code_point(last_character(text.substr(0, begin))))) &&
         (end == text.size() || !is_word(first_code_point(text.substr(end))));
}

}  // namespace

bool AddedTokens::Trie::add(std::string_view pattern, std::int32_t id) {
  std::size_t node = 0;
  starts[static_cast<unsigned char>(pattern[0])] = true;
  for (const char c : pattern) {
    const auto byte = static_cast<unsigned char>(c);
    auto& next = nodes[node].next;
    const auto place = std::lower_bound(next.begin(), next.end(), std::pair(byte, std::int32_t{-1}));
    if (place != next.end() && place->first == byte) {
      node = static_cast<std::size_t>(place->second);
      continue;
    }
    next.insert(place, {byte, static_cast<std::int32_t>(nodes.size())});
    node = nodes.size();
    nodes.emplace_back();
  }
  if (nodes[node].id >= 0) return false;
  nodes[node].id = id;
  return true;
}

std::pair<std::size_t, std::int32_t> AddedTokens::Trie::longest(std::string_view text) const {
  std::pair<std::size_t, std::int32_t> best{0, -1};
  std::size_t node = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto& next = nodes[node].next;
    const auto place = std::lower_bound(next.begin(), next.end(), std::pair(byte, std::int32_t{-1}));
    if (place == next.end() || place->first != byte) break;
    node = static_cast<std::size_t>(place->second);
    if (nodes[node].id >= 0) best = {i + 1, nodes[node].id};
  }
  return best;
}

AddedTokens::AddedTokens(const JsonFields& root, const TokenTable& vocab, const Normalizer& normalizer) {
  if (root.find("added_tokens") == nullptr) return;
  const std::size_t count = root.array("added_tokens", max_added_tokens).size();
  // The library numbers the tokens that are new to the model itself, in the order of the list.
  std::size_t next_id = vocab.count();
  for (std::size_t i = 0; i < count; ++i) {
    const JsonFields json(root.required("added_tokens")[i], root.file(), fmt::format("added_tokens[{}]", i));
    AddedToken token;
    token.content = json.string("content");
    if (token.content.empty()) continue;
    token.special = json.boolean("special", false);
    token.single_word = json.boolean("single_word", false);
    token.lstrip = json.boolean("lstrip", false);
    token.rstrip = json.boolean("rstrip", false);
    token.normalized = json.boolean("normalized", !token.special);
    token.id = static_cast<std::int32_t>(json.number("id", static_cast<std::uint64_t>(TokenTable::max_tokens - 1)));
    if (ids_.contains(token.content))
      json.format_error("content", fmt::format("'{}' stands twice in added_tokens", token.content));
    const std::int32_t in_model = vocab.find(token.content);
    const std::int64_t expected = in_model >= 0 ? in_model : static_cast<std::int64_t>(next_id++);
    if (token.id != expected) {
      json.format_error("id", fmt::format("is {}, but '{}' has id {} by its place in the vocabulary", token.id,
                                          token.content, expected));
    }
    if (in_model < 0 && vocab.has(token.id)) {
      json.format_error("id",
                        fmt::format("{} belongs to the token '{}' of model.vocab", token.id, vocab.text(token.id)));
    }
    token.pattern = token.content;
    if (token.normalized) {
      bool keeps_start = true;
      token.pattern = normalizer.apply(token.content, keeps_start, GrowthLimit(token.content.size(), root.file()));
      if (token.pattern.empty())
        json.format_error("content", fmt::format("'{}' is empty after normalization", token.content));
    }
    if (!(token.normalized ? normalized_ : raw_).add(token.pattern, token.id)) {
      json.format_error("content", fmt::format("'{}' is the same as another token after normalization", token.content));
    }
    id_end_ = std::max(id_end_, static_cast<std::size_t>(token.id) + 1);
    ids_.emplace(token.content, token.id);
    by_id_.emplace(token.id, std::move(token));
  }
}

void AddedTokens::split(std::string_view text, bool normalized, std::vector<Segment>& segments) const {
  const Trie& trie = normalized ? normalized_ : raw_;
  std::size_t covered = 0;
  for (std::size_t at = 0; at < text.size();) {
    if (!trie.starts[static_cast<unsigned char>(text[at])]) {
      ++at;
      continue;
    }
    const auto [length, id] = trie.longest(text.substr(at));
    if (id < 0) {
      ++at;
      continue;
    }
    std::size_t begin = at;
    std::size_t end = at + length;
    at = end;
    const AddedToken& token = by_id_.at(id);
    if (token.single_word && !stands_alone(text, begin, end)) continue;
    if (token.lstrip) begin = std::max(trailing_space(text.substr(0, begin)), covered);
    if (token.rstrip) end += leading_space(text.substr(end));
    if (covered < begin) segments.push_back({-1, covered, begin});
    segments.push_back({id, begin, end});
    covered = end;
  }
  if (covered != text.size()) segments.push_back({-1, covered, text.size()});
}

const AddedToken* AddedTokens::find(std::int32_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &found->second;
}

const AddedToken* AddedTokens::find(std::string_view content) const {
  const auto found = ids_.find(std::string(content));
  return found == ids_.end() ? nullptr : find(found->second);
}

}  // namespace pq
