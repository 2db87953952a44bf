#include "eval/windows.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"

namespace pq::eval {
namespace {

void check(std::span<const std::int32_t> stream, const PerplexityOptions& options) {
  if (options.length < 2) {
    throw InputError("--length", fmt::format("{} leaves no token to predict", options.length), "use 2 or more");
  }
  if (options.windowing == Windowing::llama_cpp && options.length < 3) {
    throw InputError("--llama-cpp-chunks", "the second half of 2 tokens has none to predict",
                     "use a --length of 3 or more");
  }
  if (options.windowing == Windowing::stride && (options.stride < 1 || options.stride > options.length)) {
    throw InputError("--stride",
                     fmt::format("{} tokens from one window of {} to the next {}", options.stride, options.length,
                                 options.stride < 1 ? "lead nowhere" : "leave some out"),
                     fmt::format("use 1 to {}", options.length));
  }
  if (options.batch_tokens < 1)
    throw InputError("batch_tokens", fmt::format("{} is not positive", options.batch_tokens));
  if (options.max_chunks < 0) throw InputError("max_chunks", fmt::format("{} is negative", options.max_chunks));
  const std::int64_t needed = options.windowing == Windowing::stride ? 2 : options.length;
  if (static_cast<std::int64_t>(stream.size()) < needed) {
    throw InputError("text", fmt::format("{} tokens, but one chunk takes {}", stream.size(), needed),
                     "give a longer text or a smaller --length");
  }
}

}  // namespace

Windows::Windows(std::span<const std::int32_t> stream, const PerplexityOptions& options)
    : stream_(stream), batch_tokens_(options.batch_tokens) {
  check(stream, options);
  switch (options.windowing) {
    case Windowing::chunks:
      cut_chunks(options.length - 1, options);
      break;
    case Windowing::llama_cpp:
      bos_ = options.bos;
      cut_chunks(options.length - options.length / 2 - 1, options);
      break;
    case Windowing::stride:
      cut_overlapping(options);
      break;
  }
}

void Windows::cut_chunks(std::int64_t scored, const PerplexityOptions& options) {
  std::int64_t count = static_cast<std::int64_t>(stream_.size()) / options.length;
  if (options.max_chunks > 0) count = std::min(count, options.max_chunks);
  for (std::int64_t i = 0; i < count; ++i) windows_.push_back({i * options.length, options.length, scored, 1});
}

void Windows::cut_overlapping(const PerplexityOptions& options) {
  const auto tokens = static_cast<std::int64_t>(stream_.size());
  std::int64_t seen = 0;
  for (std::int64_t begin = 0; seen < tokens; begin += options.stride) {
    if (options.max_chunks > 0 && count() == options.max_chunks) return;
    const std::int64_t end = std::min(begin + options.length, tokens);
    const std::int64_t fresh = end - seen;
    windows_.push_back({begin, end - begin, std::min(fresh, end - begin - 1), static_cast<double>(fresh - 1)});
    seen = end;
  }
}

std::int64_t Windows::scored() const {
  std::int64_t sum = 0;
  for (const Window& window : windows_) sum += window.scored;
  return sum;
}

double Windows::weight() const {
  double sum = 0;
  for (const Window& window : windows_) sum += window.weight;
  return sum;
}

std::int64_t Windows::together(std::int64_t first, std::int64_t end) const {
  const std::int64_t length = (*this)[first].length;
  const std::int64_t most = std::min(end - first, std::max<std::int64_t>(1, batch_tokens_ / length));
  std::int64_t count = 1;
  while (count < most && (*this)[first + count].length == length) ++count;
  return count;
}

std::vector<std::int32_t> Windows::tokens(std::int64_t first, std::int64_t count) const {
  std::vector<std::int32_t> all;
  all.reserve(static_cast<std::size_t>(count * (*this)[first].length));
  for (std::int64_t i = first; i < first + count; ++i) {
    const Window& window = (*this)[i];
    const auto piece = stream_.subspan(static_cast<std::size_t>(window.begin), static_cast<std::size_t>(window.length));
    const std::size_t at = all.size();
    all.insert(all.end(), piece.begin(), piece.end());
    if (bos_) all[at] = *bos_;
  }
  return all;
}

std::span<const std::int32_t> Windows::covered() const {
  const Window& last = windows_.back();
  return stream_.first(static_cast<std::size_t>(last.begin + last.length));
}

}  // namespace pq::eval
