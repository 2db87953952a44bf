#include "tokenizer/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/text_files.h"
#include "text/unicode.h"
#include "tokenizer/model_files.h"

namespace pq {
namespace {

constexpr std::size_t max_text_bytes = std::size_t{1} << 30;
/// Longer words are rarely seen twice.
constexpr std::size_t max_cached_bytes = 64;

struct WordHash {
  using is_transparent = void;
  std::size_t operator()(std::string_view word) const noexcept { return std::hash<std::string_view>{}(word); }
};

/// Encodes the parts of one text. Words seen before in it are copied from where their ids stand.
class Encoder {
 public:
  Encoder(const PreTokenizer& pre_tokenizer, const BpeModel& model, std::vector<std::int32_t>& ids)
      : pre_tokenizer_(pre_tokenizer), model_(model), ids_(ids) {}

  void add(std::string_view text, bool at_start) {
    if (text.empty()) return;
    if (pre_tokenizer_.empty()) {
      model_.encode(text, scratch_, ids_);
      return;
    }
    Pieces pieces{std::string(text), {{0, text.size()}}, at_start};
    pre_tokenizer_.apply(pieces);
    for (std::size_t i = 0; i < pieces.ranges.size(); ++i) add_word(pieces[i]);
  }

 private:
  void add_word(std::string_view word) {
    if (const auto known = known_.find(word); known != known_.end()) {
      const auto [begin, count] = known->second;
      for (std::size_t i = begin; i < begin + count; ++i) ids_.push_back(ids_[i]);
      return;
    }
    const std::size_t begin = ids_.size();
    model_.encode(word, scratch_, ids_);
    if (word.size() <= max_cached_bytes) known_.emplace(word, std::pair(begin, ids_.size() - begin));
  }

  const PreTokenizer& pre_tokenizer_;
  const BpeModel& model_;
  std::vector<std::int32_t>& ids_;
  BpeModel::Scratch scratch_;
  std::unordered_map<std::string, std::pair<std::size_t, std::size_t>, WordHash, std::equal_to<>> known_;
};

}  // namespace

Tokenizer Tokenizer::parse(std::string_view tokenizer_json, std::string_view where) {
  return Tokenizer(TokenizerParts::parse(tokenizer_json, where));
}

Tokenizer Tokenizer::load(const std::filesystem::path& model_dir) { return load(TextFiles(model_dir)); }

Tokenizer Tokenizer::load(const TextFiles& files) { return Tokenizer(load_model_files(files)); }

std::vector<std::int32_t> Tokenizer::encode(std::string_view utf8, bool add_special_tokens) const {
  if (utf8.size() > max_text_bytes)
    throw InputError("text", fmt::format("{} bytes are more than 1 GiB", utf8.size()), "split the text");
  if (const std::size_t at = find_invalid_utf8(utf8); at != std::string_view::npos) {
    throw InputError("text", fmt::format("byte {} is not valid UTF-8", at), "convert the text to UTF-8");
  }
  std::vector<std::int32_t> ids;
  if (add_special_tokens) ids = parts_->post_processor.prefix;
  Encoder encoder(parts_->pre_tokenizer, parts_->model, ids);
  const GrowthLimit limit(utf8.size(), parts_->where);
  std::size_t normalized_bytes = 0;
  std::vector<AddedTokens::Segment> raw;
  std::vector<AddedTokens::Segment> inner;
  parts_->added.split(utf8, false, raw);
  for (const AddedTokens::Segment& segment : raw) {
    if (segment.id >= 0) {
      ids.push_back(segment.id);
      continue;
    }
    bool at_start = segment.begin == 0;
    const std::string text =
        parts_->normalizer.apply(utf8.substr(segment.begin, segment.end - segment.begin), at_start, limit);
    limit.check(normalized_bytes += text.size());
    inner.clear();
    parts_->added.split(text, true, inner);
    for (const AddedTokens::Segment& part : inner) {
      if (part.id >= 0) {
        ids.push_back(part.id);
      } else {
        encoder.add(std::string_view(text).substr(part.begin, part.end - part.begin), at_start && part.begin == 0);
      }
    }
  }
  if (add_special_tokens)
    ids.insert(ids.end(), parts_->post_processor.suffix.begin(), parts_->post_processor.suffix.end());
  return ids;
}

std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special_tokens) const {
  const auto run = parts_->decoder.start(false);
  std::string text;
  for (const std::int32_t id : ids) {
    if (skip_special_tokens && is_special(id)) continue;
    if (const auto token = parts_->token(id)) run->push(*token, text);
  }
  run->finish(text);
  return text;
}

std::string Tokenizer::token_text(std::int32_t id) const {
  const AddedToken* added = parts_->added.find(id);
  if (added == nullptr && !parts_->model.vocab().has(id)) return fmt::format("<id {}>", id);
  const std::string bytes =
      added != nullptr ? added->content : parts_->decoder.bytes_of(parts_->model.vocab().text(id));
  std::string shown;
  for (std::string_view rest = bytes; !rest.empty();) {
    const Utf8Sequence sequence = first_utf8_sequence(rest);
    const auto lead = static_cast<unsigned char>(rest[0]);
    if (lead == '\n' || lead == '\r' || lead == '\t') {
      shown += lead == '\n' ? "\\n" : lead == '\r' ? "\\r" : "\\t";
    } else if (sequence.state == Utf8State::complete && lead >= 0x20 && lead != 0x7f) {
      shown += rest.substr(0, sequence.length);
    } else {
      for (std::size_t i = 0; i < sequence.length; ++i)
        shown += fmt::format("\\x{:02X}", static_cast<unsigned char>(rest[i]));
    }
    rest.remove_prefix(sequence.length);
  }
  return shown;
}

std::optional<std::int32_t> Tokenizer::id_of(std::string_view token) const { return parts_->id_of(token); }

bool Tokenizer::is_special(std::int32_t id) const {
  const AddedToken* added = parts_->added.find(id);
  return added != nullptr && added->special;
}

std::size_t Tokenizer::vocab_size() const { return std::max(parts_->added.id_end(), parts_->model.vocab().id_end()); }
std::optional<std::int32_t> Tokenizer::bos_id() const { return parts_->bos_id; }
std::optional<std::int32_t> Tokenizer::eos_id() const { return parts_->eos_id; }
bool Tokenizer::adds_bos() const {
  const auto& prefix = parts_->post_processor.prefix;
  return parts_->bos_id && !prefix.empty() && prefix.front() == *parts_->bos_id;
}
const std::optional<std::string>& Tokenizer::chat_template() const { return parts_->chat_template; }

struct StreamDecoder::State {
  Tokenizer tokenizer;
  bool skip_special_tokens;
  std::unique_ptr<Decoder::Run> run;
};

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, bool skip_special_tokens)
    : state_(new State{tokenizer, skip_special_tokens, tokenizer.parts_->decoder.start(true)}) {}
StreamDecoder::~StreamDecoder() = default;
StreamDecoder::StreamDecoder(StreamDecoder&&) noexcept = default;
StreamDecoder& StreamDecoder::operator=(StreamDecoder&&) noexcept = default;

std::string StreamDecoder::push(std::int32_t id) {
  std::string text;
  if (state_->skip_special_tokens && state_->tokenizer.is_special(id)) return text;
  if (const auto token = state_->tokenizer.parts_->token(id)) state_->run->push(*token, text);
  return text;
}

std::string StreamDecoder::finish() {
  std::string text;
  state_->run->finish(text);
  return text;
}

}  // namespace pq
