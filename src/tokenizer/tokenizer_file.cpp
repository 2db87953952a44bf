#include "tokenizer/tokenizer_file.h"

#include <fmt/format.h>

#include <cstdint>
#include <utility>

#include "base/error.h"
#include "base/json_literals.h"
#include "tokenizer/json_fields.h"

namespace pq {
namespace {

using Json = nlohmann::json;
constexpr std::size_t max_depth = 64;

/// Receives the parser's events. A tree of 250,000 vocabulary entries and 280,000 merges would take most of the loading
/// time, so these two go straight into their tables. What is wrong with them waits until the model's type is known.
class Receiver : public Json::json_sax_t {
 public:
  Receiver(TokenizerFile& file, const PythonJson& source, std::string_view where)
      : file_(file), source_(source), where_(where) {}

  bool null() override { return value(nullptr); }
  bool boolean(bool v) override { return value(v); }
  bool number_integer(std::int64_t v) override { return value(v); }
  bool number_unsigned(std::uint64_t v) override {
    if (mode_ == Mode::vocab && skipped_ == 0) {
      add_token(v);
      return true;
    }
    return value(v);
  }
  bool number_float(double v, const std::string& spelling) override { return value(source_.number(v, spelling)); }
  bool binary(Json::binary_t&) override { return false; }
  bool string(std::string& v) override {
    if (mode_ == Mode::merges && skipped_ == 0) {
      add_merge_line(v);
      return true;
    }
    if (mode_ == Mode::pair && skipped_ == 0) {
      pair_.push_back(std::move(v));
      return true;
    }
    return value(std::move(v));
  }

  bool key(std::string& v) override {
    if (skipped_ > 0) return true;
    if (mode_ == Mode::vocab) {
      token_ = std::move(v);
    } else {
      stack_.back().key = std::move(v);
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (mode_ == Mode::tree && skipped_ == 0 && in_model("vocab")) {
      mode_ = Mode::vocab;
      saw_vocab_ = true;
      return true;
    }
    return start(Json::object());
  }
  bool start_array(std::size_t) override {
    if (mode_ == Mode::tree && skipped_ == 0 && in_model("merges")) {
      mode_ = Mode::merges;
      saw_merges_ = true;
      return true;
    }
    if (mode_ == Mode::merges && skipped_ == 0) {
      mode_ = Mode::pair;
      pair_.clear();
      return true;
    }
    return start(Json::array());
  }
  bool end_object() override { return end(); }
  bool end_array() override { return end(); }

  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    throw FormatError(where_, fmt::format("is not valid JSON (at byte {})", source_.original_byte(position)),
                      "the file may be cut short; download it again");
  }

  /// Lines with several spaces, where a token holds spaces itself: the vocabulary says which one parts them.
  void split_ambiguous_lines() {
    for (const auto& [rank, line] : ambiguous_) {
      std::size_t found = 0;
      for (std::size_t space = line.find(' '); space != std::string::npos; space = line.find(' ', space + 1)) {
        const std::string_view left = std::string_view(line).substr(0, space);
        const std::string_view right = std::string_view(line).substr(space + 1);
        if (file_.vocab.find(left) < 0 || file_.vocab.find(right) < 0) continue;
        if (file_.vocab.find(std::string(left).append(right)) < 0) continue;
        ++found;
        file_.merges.split_line(rank, space);
      }
      if (found != 1) note(fmt::format("entry {} of model.merges, '{}', can be read in {} ways", rank, line, found));
    }
  }

  /// What is wrong with vocab or merges, or empty.
  std::string problem() const {
    if (!saw_vocab_) return "model.vocab is missing or is not an object";
    if (!saw_merges_) return "model.merges is missing or is not an array";
    return problem_;
  }

 private:
  enum class Mode { tree, vocab, merges, pair };
  struct Frame {
    Json value;
    std::string key;
  };

  bool in_model(std::string_view key) const {
    return stack_.size() == 2 && stack_[0].key == "model" && stack_[1].value.is_object() && stack_[1].key == key;
  }
  void note(std::string text) {
    if (problem_.empty()) problem_ = std::move(text);
  }

  bool start(Json container) {
    if (skipped_ > 0 || mode_ != Mode::tree || in_model("vocab") || in_model("merges")) {
      if (mode_ == Mode::vocab) note(fmt::format("the id of token '{}' in model.vocab is not a number", token_));
      if (mode_ == Mode::merges || mode_ == Mode::pair) note("an entry of model.merges is not a pair of strings");
      ++skipped_;
    } else {
      stack_.push_back({std::move(container), {}});
    }
    if (stack_.size() + skipped_ > max_depth) {
      throw FormatError(where_, fmt::format("JSON is nested deeper than {} levels", max_depth),
                        "this is not a tokenizer.json of Hugging Face tokenizers");
    }
    return true;
  }

  bool end() {
    if (skipped_ > 0) {
      --skipped_;
    } else if (mode_ == Mode::pair) {
      if (pair_.size() == 2) {
        file_.merges.add(pair_[0], pair_[1]);
      } else {
        note(fmt::format("entry {} of model.merges has {} parts instead of 2", file_.merges.size(), pair_.size()));
      }
      mode_ = Mode::merges;
    } else if (mode_ != Mode::tree) {
      mode_ = Mode::tree;
    } else {
      Json done = std::move(stack_.back().value);
      stack_.pop_back();
      return value(std::move(done));
    }
    return true;
  }

  bool value(Json v) {
    if (skipped_ > 0) return true;
    if (mode_ == Mode::vocab) {
      note(fmt::format("the id of token '{}' in model.vocab is not a whole number from 0 up", token_));
    } else if (mode_ != Mode::tree) {
      note("an entry of model.merges is not a pair of strings");
    } else if (stack_.empty()) {
      file_.json = std::move(v);
    } else if (Frame& top = stack_.back(); top.value.is_array()) {
      top.value.push_back(std::move(v));
    } else {
      top.value[top.key] = std::move(v);
    }
    return true;
  }

  void add_token(std::uint64_t id) {
    switch (file_.vocab.add(token_, id)) {
      case TokenTable::Added::yes:
        break;
      case TokenTable::Added::duplicate_token:
        note(fmt::format("token '{}' stands twice in model.vocab", token_));
        break;
      case TokenTable::Added::duplicate_id:
        note(fmt::format("id {} belongs to two tokens in model.vocab, '{}' and '{}'", id,
                         file_.vocab.text(static_cast<std::int32_t>(id)), token_));
        break;
      case TokenTable::Added::id_out_of_range:
        note(fmt::format("id {} of token '{}' in model.vocab is not below {}", id, token_, TokenTable::max_tokens));
        break;
    }
  }

  void add_merge_line(std::string_view line) {
    if (line.starts_with("#version")) return;
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos) {
      note(fmt::format("entry {} of model.merges, '{}', is not two tokens with a space between", file_.merges.size(),
                       line));
      return;
    }
    if (line.find(' ', space + 1) != std::string_view::npos) ambiguous_.emplace_back(file_.merges.size(), line);
    file_.merges.add_line(line);
  }

  TokenizerFile& file_;
  const PythonJson& source_;
  std::string_view where_;
  Mode mode_ = Mode::tree;
  std::vector<Frame> stack_;
  std::size_t skipped_ = 0;  // open containers inside a part that is not kept
  std::string token_;
  std::vector<std::string> pair_;
  std::vector<std::pair<std::size_t, std::string>> ambiguous_;
  std::string problem_;
  bool saw_vocab_ = false;
  bool saw_merges_ = false;
};

}  // namespace

TokenizerFile read_tokenizer_file(std::string_view text, std::string_view where) {
  TokenizerFile file;
  const PythonJson source(text);
  Receiver receiver(file, source, where);
  Json::sax_parse(source.text().begin(), source.text().end(), &receiver);
  const JsonFields root(file.json, where, "");
  const JsonFields model = root.object("model");
  const std::string type = model.optional_string("type").value_or("BPE");
  if (type != "BPE") {
    throw UnsupportedError(where, fmt::format("model type '{}' is not supported", type), "only BPE is");
  }
  receiver.split_ambiguous_lines();
  if (const std::string problem = receiver.problem(); !problem.empty()) {
    throw FormatError(where, problem, "download the file again");
  }
  return file;
}

}  // namespace pq
