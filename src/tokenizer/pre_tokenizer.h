#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
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

/// The "pre_tokenizer" of tokenizer.json: all of Hugging Face tokenizers 0.23 but UnicodeScripts.
class PreTokenizer {
 public:
  PreTokenizer() = default;
  /// Throws FormatError, UnsupportedError (a type that is not in the list above).
  explicit PreTokenizer(const JsonFields& json);

  bool empty() const { return steps_.empty(); }
  void apply(Pieces& pieces) const;

 private:
  enum class Behavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };
  /// Finds the slices of a piece that `behavior` is about.
  using Finder = std::function<void(std::string_view text, std::vector<Slice>& slices)>;
  struct Cut {
    Finder find;
    Behavior behavior;
  };
  struct ByteLevel {
    bool add_prefix_space;
    std::optional<Regex> regex;
  };
  void add(const JsonFields& json, int depth);
  void add_cut(Finder find, Behavior behavior) { steps_.emplace_back(Cut{std::move(find), behavior}); }
  static Behavior read_behavior(const JsonFields& json, std::string_view fallback);
  /// Turns slices into ranges, shifted by `base`, leaving out the empty ones.
  static void cut(const std::vector<Slice>& slices, Behavior behavior, std::size_t base,
                  std::vector<Pieces::Range>& out);
  static void apply_step(const Cut& step, Pieces& pieces);
  static void apply_step(const ByteLevel& byte_level, Pieces& pieces);
  static void apply_step(const MetaspaceOptions& metaspace, Pieces& pieces);

  std::vector<std::variant<Cut, ByteLevel, MetaspaceOptions>> steps_;
  std::string where_;
};

}  // namespace pq
