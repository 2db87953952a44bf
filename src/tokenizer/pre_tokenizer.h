#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/metaspace.h"
#include "tokenizer/pattern.h"

namespace pq {

/// A text cut into pieces; BPE never merges across them. No piece is empty.
struct Pieces {
  struct Range {
    std::size_t begin;
    std::size_t end;
  };
  std::string text;
  std::vector<Range> ranges;
  /// Whether the first piece begins where the whole input begins.
  bool at_start = false;

  std::string_view operator[](std::size_t i) const {
    return std::string_view(text).substr(ranges[i].begin, ranges[i].end - ranges[i].begin);
  }
};

/// The "pre_tokenizer" of tokenizer.json: Sequence, Split, ByteLevel, Metaspace, Digits.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  /// Throws FormatError, UnsupportedError (a type that is not in the list above).
  explicit PreTokenizer(const JsonFields& json);

  bool empty() const { return steps_.empty(); }
  void apply(Pieces& pieces) const;

 private:
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
  struct Split {
    Pattern pattern;
    Behavior behavior;
    bool invert;
  };
  struct ByteLevel {
    bool add_prefix_space;
    std::optional<Regex> regex;
  };
  struct Digits {
    Behavior behavior;
  };
  void add(const JsonFields& json, int depth);
  /// Turns slices into ranges, shifted by `base`, leaving out the empty ones.
  static void cut(const std::vector<Slice>& slices, Behavior behavior, std::size_t base,
                  std::vector<Pieces::Range>& out);
  static void apply_step(const Split& split, Pieces& pieces);
  static void apply_step(const ByteLevel& byte_level, Pieces& pieces);
  static void apply_step(const MetaspaceOptions& metaspace, Pieces& pieces);
  static void apply_step(const Digits& digits, Pieces& pieces);

  std::vector<std::variant<Split, ByteLevel, MetaspaceOptions, Digits>> steps_;
  std::string where_;
};

}  // namespace pq
