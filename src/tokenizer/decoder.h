#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tokenizer/metaspace.h"
#include "tokenizer/pattern.h"

namespace pq {

/// The "decoder" of tokenizer.json: Sequence, Replace, ByteFallback, Fuse, Strip, ByteLevel, Metaspace. Without one,
/// tokens are joined by spaces.
class Decoder {
 public:
  Decoder() = default;
  /// Throws FormatError, UnsupportedError (a type that is not in the list above).
  explicit Decoder(const JsonFields& json);

  /// One text being decoded, token by token.
  class Run {
   public:
    virtual ~Run() = default;
    /// Appends to `out` what this token makes complete.
    virtual void push(std::string_view token, std::string& out) = 0;
    /// Appends what waited; an incomplete UTF-8 sequence becomes U+FFFD.
    virtual void finish(std::string& out) = 0;
  };
  /// `streaming` shows byte tokens (<0xNN>) as soon as they make up a character. Otherwise a run of them waits for its
  /// end, because Hugging Face shows all of the run as U+FFFD when any of it is invalid. The decoder must outlive the
  /// run.
  std::unique_ptr<Run> start(bool streaming) const;

  /// The bytes that one token stands for in the middle of a text.
  std::string bytes_of(std::string_view token) const;

 private:
  struct Replace {
    Pattern pattern;
    std::string content;
  };
  struct ByteFallback {};
  struct Fuse {};
  struct Strip {
    std::string content;  // one character
    std::uint64_t start;
    std::uint64_t stop;
  };
  struct ByteLevel {};
  using Step = std::variant<Replace, ByteFallback, Fuse, Strip, ByteLevel, MetaspaceOptions>;
  class Chain;

  void add(const JsonFields& json, int depth);

  std::vector<Step> steps_;
  bool joins_with_spaces_ = true;
  std::string where_;
};

}  // namespace pq
