#include "tokenizer/pre_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "text/unicode.h"
#include "tokenizer/byte_level.h"

namespace pq {
namespace {

constexpr std::uint64_t max_fixed_length = std::uint64_t{1} << 30;
constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

/// Slices that are one character each where `matches`, and as long as they can be elsewhere.
template <typename Matches>
void find_characters(std::string_view text, const Matches& matches, std::vector<Slice>& slices) {
  std::size_t covered = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text[at]);
    if (matches(first_code_point(text.substr(at)))) {
      if (covered != at) slices.push_back({covered, at, false});
      covered = at + length;
      slices.push_back({at, covered, true});
    }
    at += length;
  }
  if (covered != text.size() || text.empty()) slices.push_back({covered, text.size(), false});
}

template <bool (*matches)(char32_t)>
void find_each(std::string_view text, std::vector<Slice>& slices) {
  find_characters(text, matches, slices);
}

/// The white space between runs of \w and runs of what is neither.
void find_between_words(std::string_view text, std::vector<Slice>& slices) {
  const auto kind_of = [&](std::size_t at) {
    const char32_t c = first_code_point(text.substr(at));
    return is_word(c) ? 'w' : is_white_space(c) ? ' ' : '.';
  };
  for (std::size_t begin = 0; begin < text.size();) {
    const char kind = kind_of(begin);
    std::size_t end = begin;
    do {
      end += utf8_length(text[end]);
    } while (end < text.size() && kind_of(end) == kind);
    slices.push_back({begin, end, kind == ' '});
    begin = end;
  }
  if (text.empty()) slices.push_back({0, 0, false});
}

void find_lengths(std::string_view text, std::uint64_t length, std::vector<Slice>& slices) {
  std::size_t begin = 0;
  std::uint64_t characters = 0;
  for (std::size_t at = 0; at < text.size();) {
    at += utf8_length(text[at]);
    if (++characters % length != 0 && at < text.size()) continue;
    slices.push_back({begin, at, false});
    begin = at;
  }
  if (text.empty()) slices.push_back({0, 0, false});
}

}  // namespace

PreTokenizer::PreTokenizer(const JsonFields& json) : where_(json.file()) { add(json, 0); }

void PreTokenizer::add(const JsonFields& json, int depth) {
  const std::string type = json.string("type");
  if (type == "Sequence") {
    if (depth > 4) json.unsupported("sequences inside sequences deeper than 4");
    const std::size_t count = json.array("pretokenizers", max_steps).size();
    for (std::size_t i = 0; i < count; ++i) add(json.element("pretokenizers", i), depth + 1);
  } else if (type == "Split") {
    const Pattern pattern(json);
    const bool invert = json.boolean("invert", false);
    const Finder find = [pattern, invert](std::string_view text, std::vector<Slice>& slices) {
      pattern.find_all(text, slices);
      if (!invert) return;
      for (Slice& slice : slices) slice.is_match = !slice.is_match;
    };
    add_cut(find, read_behavior(json, ""));
  } else if (type == "ByteLevel") {
    ByteLevel step{json.boolean("add_prefix_space", true), std::nullopt};
    if (json.boolean("use_regex", true)) step.regex.emplace(gpt2_pattern, json.file());
    steps_.emplace_back(std::move(step));
  } else if (type == "Metaspace") {
    steps_.emplace_back(MetaspaceOptions(json));
  } else if (type == "Digits") {
    add_cut(find_each<is_numeric>,
            json.boolean("individual_digits", false) ? Behavior::isolated : Behavior::contiguous);
  } else if (type == "Punctuation") {
    add_cut(find_each<is_punctuation>, read_behavior(json, "Isolated"));
  } else if (type == "Whitespace") {
    add_cut(find_between_words, Behavior::removed);
  } else if (type == "WhitespaceSplit") {
    add_cut(find_each<is_white_space>, Behavior::removed);
  } else if (type == "BertPreTokenizer") {
    add_cut(find_each<is_white_space>, Behavior::removed);
    add_cut(find_each<is_punctuation>, Behavior::isolated);
  } else if (type == "CharDelimiterSplit") {
    const char32_t delimiter = first_code_point(json.character("delimiter"));
    const Finder find = [delimiter](std::string_view text, std::vector<Slice>& slices) {
      find_characters(
          text, [delimiter](char32_t c) { return c == delimiter; }, slices);
    };
    add_cut(find, Behavior::removed);
  } else if (type == "FixedLength") {
    const std::uint64_t length = json.find("length") == nullptr ? 5 : json.number("length", max_fixed_length);
    if (length == 0) json.unsupported("FixedLength with a length of 0");
    const Finder find = [length](std::string_view text, std::vector<Slice>& slices) {
      find_lengths(text, length, slices);
    };
    add_cut(find, Behavior::isolated);
  } else {
    json.unsupported(fmt::format("pre_tokenizer type '{}' is not supported", type),
                     "only Sequence, Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, "
                     "CharDelimiterSplit, FixedLength, BertPreTokenizer are");
  }
  if (steps_.size() > max_steps) json.unsupported(fmt::format("more than {} pre-tokenizers", max_steps));
}

PreTokenizer::Behavior PreTokenizer::read_behavior(const JsonFields& json, std::string_view fallback) {
  constexpr std::pair<std::string_view, Behavior> rows[] = {{"Removed", Behavior::removed},
                                                            {"Isolated", Behavior::isolated},
                                                            {"MergedWithPrevious", Behavior::merged_with_previous},
                                                            {"MergedWithNext", Behavior::merged_with_next},
                                                            {"Contiguous", Behavior::contiguous}};
  const bool is_left_out = !fallback.empty() && json.find("behavior") == nullptr;
  const std::string name = is_left_out ? std::string(fallback) : json.string("behavior");
  const auto row = std::find_if(std::begin(rows), std::end(rows), [&](const auto& r) { return r.first == name; });
  if (row == std::end(rows)) {
    json.unsupported(fmt::format("behavior '{}' is not supported", name),
                     "only Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous are");
  }
  return row->second;
}

void PreTokenizer::cut(const std::vector<Slice>& slices, Behavior behavior, std::size_t base,
                       std::vector<Pieces::Range>& out) {
  // Follows NormalizedString::split of Hugging Face tokenizers, which folds over the slices, empty ones included.
  const std::size_t first = out.size();
  bool previous_match = false;
  const auto fold = [&](const Slice& slice, bool joins) {
    if (joins && out.size() > first) {
      out.back().begin = std::min(out.back().begin, base + slice.begin);
      out.back().end = std::max(out.back().end, base + slice.end);
    } else {
      out.push_back({base + slice.begin, base + slice.end});
    }
    previous_match = slice.is_match;
  };
  switch (behavior) {
    case Behavior::isolated:
      for (const Slice& slice : slices) fold(slice, false);
      break;
    case Behavior::removed:
      for (const Slice& slice : slices) {
        if (!slice.is_match) fold(slice, false);
      }
      break;
    case Behavior::contiguous:
      for (const Slice& slice : slices) fold(slice, slice.is_match == previous_match);
      break;
    case Behavior::merged_with_previous:
      for (const Slice& slice : slices) fold(slice, slice.is_match && !previous_match);
      break;
    case Behavior::merged_with_next:
      for (auto slice = slices.rbegin(); slice != slices.rend(); ++slice)
        fold(*slice, slice->is_match && !previous_match);
      std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
      break;
  }
  out.erase(std::remove_if(out.begin() + static_cast<std::ptrdiff_t>(first), out.end(),
                           [](const Pieces::Range& range) { return range.begin == range.end; }),
            out.end());
}

void PreTokenizer::apply_step(const Cut& step, Pieces& pieces) {
  std::vector<Pieces::Range> ranges;
  std::vector<Slice> slices;
  for (std::size_t i = 0; i < pieces.ranges.size(); ++i) {
    slices.clear();
    step.find(pieces[i], slices);
    cut(slices, step.behavior, pieces.ranges[i].begin, ranges);
  }
  pieces.at_start = pieces.at_start && !ranges.empty() && ranges[0].begin == pieces.ranges[0].begin;
  pieces.ranges = std::move(ranges);
}

void PreTokenizer::apply_step(const ByteLevel& byte_level, Pieces& pieces) {
  std::string text;
  text.reserve(pieces.text.size() + pieces.text.size() / 4);
  std::vector<Pieces::Range> ranges;
  std::vector<Slice> slices;
  std::string spaced;
  for (std::size_t i = 0; i < pieces.ranges.size(); ++i) {
    std::string_view piece = pieces[i];
    if (byte_level.add_prefix_space && piece[0] != ' ') {
      spaced = ' ';
      spaced += piece;
      piece = spaced;
    }
    slices.clear();
    if (byte_level.regex) {
      byte_level.regex->find_all(piece, slices);
    } else {
      slices.push_back({0, piece.size(), false});
    }
    for (const Slice& slice : slices) {
      const std::size_t begin = text.size();
      append_byte_level(text, piece.substr(slice.begin, slice.end - slice.begin));
      if (text.size() != begin) ranges.push_back({begin, text.size()});
    }
  }
  pieces.text = std::move(text);
  pieces.ranges = std::move(ranges);
}

void PreTokenizer::apply_step(const MetaspaceOptions& metaspace, Pieces& pieces) {
  std::string text;
  std::vector<Pieces::Range> ranges;
  std::vector<Slice> slices;
  for (std::size_t i = 0; i < pieces.ranges.size(); ++i) {
    const std::size_t begin = text.size();
    const std::string_view piece = pieces[i];
    const bool prepends = metaspace.scheme == MetaspaceOptions::Scheme::always ||
                          (metaspace.scheme == MetaspaceOptions::Scheme::first && i == 0 && pieces.at_start);
    if (prepends && piece[0] != ' ' && !piece.starts_with(metaspace.replacement)) text += metaspace.replacement;
    for (const char c : piece) {
      if (c == ' ') {
        text += metaspace.replacement;
      } else {
        text.push_back(c);
      }
    }
    if (!metaspace.split) {
      ranges.push_back({begin, text.size()});
      continue;
    }
    slices.clear();
    find_literal(metaspace.replacement, std::string_view(text).substr(begin), slices);
    cut(slices, Behavior::merged_with_next, begin, ranges);
  }
  pieces.text = std::move(text);
  pieces.ranges = std::move(ranges);
}

void PreTokenizer::apply(Pieces& pieces) const {
  const GrowthLimit limit(pieces.text.size(), where_);
  for (const auto& step : steps_) {
    std::visit([&pieces](const auto& one) { apply_step(one, pieces); }, step);
    limit.check(pieces.text.size());
  }
}

}  // namespace pq
