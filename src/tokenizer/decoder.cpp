#include "tokenizer/decoder.h"

#include <fmt/format.h>

#include <functional>
#include <limits>
#include <optional>

#include "text/unicode.h"
#include "tokenizer/byte_level.h"

namespace pq {
namespace {

using Sink = std::function<void(std::string_view)>;

/// One step at work. Tokens come in; behind a Fuse they are pieces of a single token.
class Stage {
 public:
  virtual ~Stage() = default;
  virtual void push(std::string_view token, const Sink& out) = 0;
  virtual void finish(const Sink&) {}
};

/// The byte of "<0xNN>".
std::optional<char> byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  unsigned value = 0;
  for (const char c : token.substr(3, 2)) {
    const bool plus = c == '+' && &c == &token[3];  // Rust's number parser allows it
    const unsigned digit = c >= '0' && c <= '9'   ? static_cast<unsigned>(c - '0')
                           : c >= 'a' && c <= 'f' ? static_cast<unsigned>(c - 'a' + 10)
                           : c >= 'A' && c <= 'F' ? static_cast<unsigned>(c - 'A' + 10)
                                                  : 16U;
    if (digit == 16 && !plus) return std::nullopt;
    value = plus ? 0 : value * 16 + digit;
  }
  return static_cast<char>(static_cast<unsigned char>(value));
}

std::string replace_character(std::string_view text, std::string_view character, std::string_view content) {
  std::string out;
  for (; !text.empty(); text.remove_prefix(utf8_length(text[0]))) {
    const std::string_view c = text.substr(0, utf8_length(text[0]));
    out += c == character ? content : c;
  }
  return out;
}

/// Waits for the end of a fused token where the next step needs it whole.
class CollectStage : public Stage {
 public:
  void push(std::string_view token, const Sink&) override { text_ += token; }
  void finish(const Sink& out) override { out(text_); }

 private:
  std::string text_;
};

class ReplaceStage : public Stage {
 public:
  ReplaceStage(const Pattern& pattern, std::string_view content, const GrowthLimit& limit)
      : pattern_(pattern), content_(content), limit_(limit) {}
  void push(std::string_view token, const Sink& out) override {
    slices_.clear();
    pattern_.find_all(token, slices_);
    const std::string replaced = replace_slices(token, slices_, content_, limit_);
    produced_ += replaced.size();
    limit_.check(produced_);
    out(replaced);
  }

 private:
  const Pattern& pattern_;
  std::string_view content_;
  const GrowthLimit& limit_;
  std::vector<Slice> slices_;
  std::size_t produced_ = 0;
};

class ByteFallbackStage : public Stage {
 public:
  explicit ByteFallbackStage(bool streaming) : streaming_(streaming) {}
  void push(std::string_view token, const Sink& out) override {
    if (const std::optional<char> byte = byte_token(token)) {
      bytes_.push_back(*byte);
      if (streaming_) show_complete(out);
      return;
    }
    finish(out);
    out(token);
  }
  void finish(const Sink& out) override {
    if (bytes_.empty()) return;
    if (find_invalid_utf8(bytes_) == std::string_view::npos) {
      out(bytes_);
    } else {
      for (std::size_t i = 0; i < bytes_.size(); ++i) out(replacement_character);
    }
    bytes_.clear();
  }

 private:
  void show_complete(const Sink& out) {
    while (!bytes_.empty()) {
      const Utf8Sequence sequence = first_utf8_sequence(bytes_);
      if (sequence.state == Utf8State::incomplete) return;
      if (sequence.state == Utf8State::complete) {
        out(std::string_view(bytes_).substr(0, sequence.length));
      } else {
        for (std::size_t i = 0; i < sequence.length; ++i) out(replacement_character);
      }
      bytes_.erase(0, sequence.length);
    }
  }
  bool streaming_;
  std::string bytes_;
};

/// Takes up to `start` of one character off the front and up to `stop` off the end of each token.
class StripStage : public Stage {
 public:
  StripStage(std::string_view character, std::uint64_t start, std::uint64_t stop, bool fused)
      : character_(character), start_(start), stop_(stop), fused_(fused), left_(start) {}
  void push(std::string_view token, const Sink& out) override {
    std::string kept;
    for (; !token.empty(); token.remove_prefix(utf8_length(token[0]))) {
      const std::string_view c = token.substr(0, utf8_length(token[0]));
      if (c != character_) {
        left_ = 0;
        for (; held_ > 0; --held_) kept += character_;
        kept += c;
      } else if (left_ > 0) {
        --left_;
      } else if (held_ < stop_) {
        ++held_;
      } else {
        kept += c;
      }
    }
    out(kept);
    if (!fused_) {
      left_ = start_;
      held_ = 0;
    }
  }

 private:
  std::string_view character_;
  std::uint64_t start_;
  std::uint64_t stop_;
  bool fused_;
  std::uint64_t left_;      // how many may still go at the front
  std::uint64_t held_ = 0;  // how many stand at the end so far
};

class ByteLevelStage : public Stage {
 public:
  void push(std::string_view token, const Sink& out) override {
    append_byte_level_bytes(pending_, token);
    drain(out, false);
  }
  void finish(const Sink& out) override { drain(out, true); }

 private:
  void drain(const Sink& out, bool at_end) {
    std::string text;
    drain_utf8(pending_, text, at_end);
    out(text);
  }
  std::string pending_;
};

class MetaspaceStage : public Stage {
 public:
  MetaspaceStage(const MetaspaceOptions& options, bool fused) : options_(options), fused_(fused) {}
  void push(std::string_view token, const Sink& out) override {
    const bool drops = first_ && options_.scheme != MetaspaceOptions::Scheme::never;
    out(replace_character(token, options_.replacement, drops ? "" : " "));
    first_ = fused_;
  }

 private:
  const MetaspaceOptions& options_;
  bool fused_;
  bool first_ = true;
};

}  // namespace

Decoder::Decoder(const JsonFields& json) : joins_with_spaces_(false), where_(json.file()) { add(json, 0); }

void Decoder::add(const JsonFields& json, int depth) {
  const std::string type = json.string("type");
  if (type == "Sequence") {
    if (depth > 4) json.unsupported("sequences inside sequences deeper than 4");
    const std::size_t count = json.array("decoders", max_steps).size();
    for (std::size_t i = 0; i < count; ++i) add(json.element("decoders", i), depth + 1);
  } else if (type == "Replace") {
    steps_.emplace_back(Replace{Pattern(json), json.string("content")});
  } else if (type == "ByteFallback") {
    steps_.emplace_back(ByteFallback{});
  } else if (type == "Fuse") {
    steps_.emplace_back(Fuse{});
  } else if (type == "Strip") {
    constexpr std::uint64_t max_strip = std::numeric_limits<std::uint32_t>::max();
    steps_.emplace_back(
        Strip{json.character("content"), json.number("start", max_strip), json.number("stop", max_strip)});
  } else if (type == "ByteLevel") {
    steps_.emplace_back(ByteLevel{});
  } else if (type == "Metaspace") {
    steps_.emplace_back(MetaspaceOptions(json));
  } else {
    json.unsupported(fmt::format("decoder type '{}' is not supported", type),
                     "only Sequence, Replace, ByteFallback, Fuse, Strip, ByteLevel, Metaspace are");
  }
  if (steps_.size() > max_steps) json.unsupported(fmt::format("more than {} decoders", max_steps));
}

/// The stages in a row, each feeding the next.
class Decoder::Chain : public Decoder::Run {
 public:
  Chain(const Decoder& decoder, bool streaming)
      : limit_(0, decoder.where_), joins_with_spaces_(decoder.joins_with_spaces_) {
    bool fused = false;
    for (std::size_t i = 0; i < decoder.steps_.size(); ++i) {
      const bool ends_fused = i + 1 == decoder.steps_.size() || std::holds_alternative<Fuse>(decoder.steps_[i + 1]);
      std::visit([&](const auto& step) { add(step, fused, streaming && ends_fused); }, decoder.steps_[i]);
    }
    sinks_.resize(stages_.size() + 1);
    sinks_.back() = [this](std::string_view text) { *out_ += text; };
    for (std::size_t i = stages_.size(); i-- > 0;) {
      sinks_[i] = [this, i](std::string_view token) { stages_[i]->push(token, sinks_[i + 1]); };
    }
  }

  void push(std::string_view token, std::string& out) override {
    out_ = &out;
    limit_.add_input(token.size());
    if (joins_with_spaces_ && !first_) out += ' ';
    first_ = false;
    sinks_[0](token);
  }
  void finish(std::string& out) override {
    out_ = &out;
    for (std::size_t i = 0; i < stages_.size(); ++i) stages_[i]->finish(sinks_[i + 1]);
  }

 private:
  void collect(bool& fused) {
    if (fused) stages_.push_back(std::make_unique<CollectStage>());
    fused = false;
  }
  void add(const Replace& step, bool& fused, bool) {
    if (!step.pattern.is_one_character()) collect(fused);
    stages_.push_back(std::make_unique<ReplaceStage>(step.pattern, step.content, limit_));
  }
  void add(const ByteFallback&, bool& fused, bool streaming) {
    collect(fused);
    stages_.push_back(std::make_unique<ByteFallbackStage>(streaming));
  }
  void add(const Fuse&, bool& fused, bool) { fused = true; }
  void add(const Strip& step, bool& fused, bool) {
    stages_.push_back(std::make_unique<StripStage>(step.content, step.start, step.stop, fused));
  }
  void add(const ByteLevel&, bool& fused, bool) {
    collect(fused);
    stages_.push_back(std::make_unique<ByteLevelStage>());
    fused = true;
  }
  void add(const MetaspaceOptions& step, bool& fused, bool) {
    stages_.push_back(std::make_unique<MetaspaceStage>(step, fused));
  }

  GrowthLimit limit_;
  bool joins_with_spaces_;
  bool first_ = true;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::vector<Sink> sinks_;
  std::string* out_ = nullptr;
};

std::unique_ptr<Decoder::Run> Decoder::start(bool streaming) const { return std::make_unique<Chain>(*this, streaming); }

std::string Decoder::bytes_of(std::string_view token) const {
  std::string bytes(token);
  for (const Step& step : steps_) {
    if (const auto* replace = std::get_if<Replace>(&step)) {
      std::vector<Slice> slices;
      replace->pattern.find_all(bytes, slices);
      bytes = replace_slices(bytes, slices, replace->content, GrowthLimit(token.size(), where_));
    } else if (std::holds_alternative<ByteFallback>(step)) {
      if (const std::optional<char> byte = byte_token(bytes)) return {*byte};
    } else if (std::holds_alternative<ByteLevel>(step)) {
      std::string decoded;
      append_byte_level_bytes(decoded, bytes);
      return decoded;
    } else if (const auto* metaspace = std::get_if<MetaspaceOptions>(&step)) {
      bytes = replace_character(bytes, metaspace->replacement, " ");
    }
  }
  return bytes;
}

}  // namespace pq
