#include "tasks/request.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/index.h"
#include "tasks/python_text.h"

namespace pq::tasks {
namespace {

/// encode() of a text, kept while the next text is the same.
class LastEncoded {
 public:
  template <typename Encode>
  const std::vector<std::int32_t>& of(const std::string& text, const Encode& encode) {
    if (!known_ || text != text_) {
      tokens_ = encode(text);
      text_ = text;
      known_ = true;
    }
    return tokens_;
  }

 private:
  bool known_ = false;
  std::string text_;
  std::vector<std::int32_t> tokens_;
};

}  // namespace

RequestEncoder::RequestEncoder(const Tokenizer& tokenizer, Bos bos, std::int64_t max_length)
    : tokenizer_(tokenizer),
      adds_bos_(bos == Bos::automatic ? tokenizer.adds_bos() : bos == Bos::yes),
      max_length_(max_length) {
  if (bos == Bos::yes && !tokenizer.bos_id()) {
    throw InputError("--bos yes", "the model's tokenizer has no BOS token", "use --bos auto or no");
  }
}

std::vector<std::int32_t> RequestEncoder::tokens_of(std::string_view text) const {
  if (!adds_bos_) return tokenizer_.encode(text, false);
  std::vector<std::int32_t> tokens = tokenizer_.encode(text, tokenizer_.adds_bos());
  const std::int32_t bos = *tokenizer_.bos_id();
  if (!tokenizer_.adds_bos()) tokens.insert(tokens.begin(), bos);
  // A text that begins with the BOS written out has its own.
  if (tokens.size() > 1 && tokens[0] == bos && tokens[1] == bos) tokens.erase(tokens.begin());
  return tokens;
}

std::int32_t RequestEncoder::prefix_token(const Document& document) const {
  const auto token = tokenizer_.bos_id() ? tokenizer_.bos_id() : tokenizer_.eos_id();
  if (!token) {
    throw InputError(document.where, "has no context, and the model's tokenizer no BOS or EOS to stand for one");
  }
  return *token;
}

Request RequestEncoder::request_of(const Document& document, std::size_t prompt, std::vector<std::int32_t> context,
                                   std::vector<std::int32_t> continuation) const {
  const auto refuse = [&](std::string_view what, std::string_view remedy) {
    const Prompt& asked = document.prompts[prompt];
    const std::string field = asked.field.empty() ? "" : fmt::format("field `{}`: ", asked.field);
    throw FormatError(document.where, fmt::format("{}choice {} (\"{}\") {}", field, prompt, asked.continuation, what),
                      remedy);
  };
  if (continuation.empty()) refuse("tokenizes to nothing", "mend the line");
  if (static_cast<std::int64_t>(continuation.size()) > max_length_) {
    refuse(fmt::format("has {} tokens, more than the model's context of {}", continuation.size(), max_length_),
           "shorten it, or use a model with a longer context");
  }
  context.insert(context.end(), continuation.begin(), continuation.end() - 1);
  const auto excess = static_cast<std::int64_t>(context.size()) - max_length_;
  if (excess > 0) context.erase(context.begin(), context.begin() + excess);
  Request request(std::move(context), std::move(continuation));
  request.truncated = excess > 0;
  return request;
}

std::vector<Request> RequestEncoder::encode(const Document& document) const {
  std::vector<Request> requests;
  LastEncoded contexts;
  LastEncoded wholes;
  for (std::size_t i = 0; i < document.prompts.size(); ++i) {
    const std::string_view original = document.prompts[i].context;
    const std::string context(strip_end(original));
    const std::string whole = document.prompts[i].context + document.prompts[i].continuation;
    const auto encode = [&](const std::string& text) { return tokens_of(text); };
    if (!context.empty()) {
      const std::vector<std::int32_t>& before = contexts.of(context, encode);
      const std::vector<std::int32_t>& all = wholes.of(whole, encode);
      std::vector<std::int32_t> continuation(
          all.begin() + static_cast<std::ptrdiff_t>(std::min(before.size(), all.size())), all.end());
      requests.push_back(request_of(document, i, before, std::move(continuation)));
      continue;
    }
    const std::int32_t prefix = prefix_token(document);
    std::vector<std::int32_t> continuation = tokenizer_.encode(whole, false);
    if (!continuation.empty() && continuation.front() == prefix) continuation.erase(continuation.begin());
    requests.push_back(request_of(document, i, {prefix}, std::move(continuation)));
  }
  for (std::size_t i = 1; i < requests.size(); ++i) {
    if (*requests[i].input == *requests[i - 1].input) requests[i].input = requests[i - 1].input;
  }
  return requests;
}

std::vector<Request> RequestEncoder::encode_page(const Document& document) const {
  const std::vector<std::int32_t> tokens = tokens_of(document.prompts[0].continuation);
  if (tokens.empty()) throw FormatError(document.where, "tokenizes to nothing", "leave the page out");
  std::vector<std::int32_t> stream{prefix_token(document)};  // token i of the page is predicted behind stream[0 .. i]
  stream.insert(stream.end(), tokens.begin(), tokens.end());
  std::vector<Request> requests;
  const std::size_t window = index(max_length_);
  for (std::size_t done = 0; done < tokens.size();) {
    const std::size_t end = std::min(done + window, tokens.size());
    const std::size_t begin = end > window ? end - window : 0;
    const auto part = [](const std::vector<std::int32_t>& of, std::size_t first, std::size_t last) {
      return std::vector<std::int32_t>(of.begin() + static_cast<std::ptrdiff_t>(first),
                                       of.begin() + static_cast<std::ptrdiff_t>(last));
    };
    requests.emplace_back(part(stream, begin, end), part(tokens, done, end));
    done = end;
  }
  return requests;
}

}  // namespace pq::tasks
