#include "tokenizer/pre_tokenizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "text/unicode.h"
#include "tokenizer/byte_level.h"

namespace pq {
namespace {

constexpr std::string_view gpt2_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

void find_digits(std::string_view text, std::vector<Slice>& slices) {
  std::size_t covered = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t length = utf8_length(text[at]);
    if (is_numeric(first_code_point(text.substr(at)))) {
      if (covered != at) slices.push_back({covered, at, false});
      covered = at + length;
      slices.push_back({at, covered, true});
    }
    at += length;
  }
  if (covered != text.size() || text.empty()) slices.push_back({covered, text.size(), false});
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
    const std::string name = json.string("behavior");
    const auto behavior = name == "Removed"              ? Behavior::removed
                          : name == "Isolated"           ? Behavior::isolated
                          : name == "MergedWithPrevious" ? Behavior::merged_with_previous
                          : name == "MergedWithNext"     ? Behavior::merged_with_next
                                                         : Behavior::contiguous;
    if (behavior == Behavior::contiguous && name != "Contiguous") {
      json.unsupported(fmt::format("Split behavior '{}' is not supported", name),
                       "only Removed, Isolated, MergedWithPrevious, MergedWithNext, Contiguous are");
    }
    steps_.emplace_back(Split{Pattern(json), behavior, json.boolean("invert", false)});
  } else if (type == "ByteLevel") {
    ByteLevel step{json.boolean("add_prefix_space", true), std::nullopt};
    if (json.boolean("use_regex", true)) step.regex.emplace(gpt2_pattern, json.file());
    steps_.emplace_back(std::move(step));
  } else if (type == "Metaspace") {
    steps_.emplace_back(MetaspaceOptions(json));
  } else if (type == "Digits") {
    steps_.emplace_back(Digits{json.boolean("individual_digits", false) ? Behavior::isolated : Behavior::contiguous});
  } else {
    json.unsupported(fmt::format("pre_tokenizer type '{}' is not supported", type),
                     "only Sequence, Split, ByteLevel, Metaspace, Digits are");
  }
  if (steps_.size() > max_steps) json.unsupported(fmt::format("more than {} pre-tokenizers", max_steps));
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

void PreTokenizer::apply_step(const Split& split, Pieces& pieces) {
  std::vector<Pieces::Range> ranges;
  std::vector<Slice> slices;
  for (std::size_t i = 0; i < pieces.ranges.size(); ++i) {
    slices.clear();
    split.pattern.find_all(pieces[i], slices);
    if (split.invert) {
      for (Slice& slice : slices) slice.is_match = !slice.is_match;
    }
    cut(slices, split.behavior, pieces.ranges[i].begin, ranges);
  }
  pieces.at_start = pieces.at_start && !ranges.empty() && ranges[0].begin == pieces.ranges[0].begin;
  pieces.ranges = std::move(ranges);
}

void PreTokenizer::apply_step(const Digits& digits, Pieces& pieces) {
  std::vector<Pieces::Range> ranges;
  std::vector<Slice> slices;
  for (std::size_t i = 0; i < pieces.ranges.size(); ++i) {
    slices.clear();
    find_digits(pieces[i], slices);
    cut(slices, digits.behavior, pieces.ranges[i].begin, ranges);
  }
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
      spaced.assign(" ").append(piece);
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
