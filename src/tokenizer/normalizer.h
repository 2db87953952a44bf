#pragma once

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/unicode.h"
#include "tokenizer/pattern.h"

namespace pq {

/// The "normalizer" of tokenizer.json: all of Hugging Face tokenizers 0.23 but BertNormalizer and Precompiled, which
/// BPE models do not use.
class Normalizer {
 public:
  Normalizer() = default;
  /// Throws FormatError, UnsupportedError (a type that is not in the list above).
  explicit Normalizer(const JsonFields& json);

  bool empty() const { return steps_.empty(); }
  /// Normalizes one segment of the input (valid UTF-8, what lies between two added tokens).
  /// `keeps_start` is cleared when the first character of `text` is gone from the result.
  std::string apply(std::string_view text, bool& keeps_start, const GrowthLimit& limit) const;

 private:
  struct Prepend {
    std::string prefix;
  };
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct Form {
    NormalizationForm form;
  };
  struct Strip {
    bool left;
    bool right;
  };
  /// Each character for itself: Lowercase, StripAccents, Nmt, ByteLevel. Appends what becomes of it, nothing where it
  /// is taken out.
  struct Map {
    void (*append)(char32_t c, std::string& out);
  };
  void add(const JsonFields& json, int depth);
  static std::string map(const Map& step, std::string_view text, bool& keeps_start);

  std::vector<std::variant<Prepend, Replace, Form, Strip, Map>> steps_;
};

}  // namespace pq
