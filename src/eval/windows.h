#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace pq::eval {

/// How a text is cut into windows, and which tokens of a window are scored.
enum class Windowing {
  chunks,    ///< consecutive; all tokens but the first; the tail is dropped
  stride,    ///< overlapping, as Hugging Face's guide does; the tokens that no window before had; the tail too
  llama_cpp  ///< consecutive; the second half; BOS in place of the first token; as llama.cpp's llama-perplexity does
};

struct PerplexityOptions {
  std::int64_t length = 2048;        ///< tokens a window, 2 or more; a model's prefix comes on top
  std::int64_t batch_tokens = 4096;  ///< run as many windows together as fit in this many tokens; at least one
  std::int64_t max_chunks = 0;       ///< evaluate the first windows only; 0: all
  Windowing windowing = Windowing::chunks;
  std::int64_t stride = 0;            ///< Windowing::stride: tokens from a window to the next, 1 to `length`
  std::optional<std::int32_t> bos{};  ///< Windowing::llama_cpp: what the first token of every window becomes
};

/// A piece of the stream that runs alone from position 0. Its last `scored` tokens are predicted, each from all before
/// it in the window.
struct Window {
  std::int64_t begin;  ///< in the stream
  std::int64_t length;
  std::int64_t scored;  ///< 0 to length - 1
  double weight;        ///< of the mean over its predictions in the mean over all windows
};

class Windows {
 public:
  /// Keeps `stream`. Throws InputError (options, a stream shorter than a window; with Windowing::stride than 2 tokens).
  ///
  /// Windowing::stride is the sum of https://huggingface.co/docs/transformers/perplexity: windows begin at 0, stride,
  /// 2 stride, .. until one reaches the end; the mean loss of a window over the tokens that are new in it counts
  /// (new tokens - 1) times, the guide's "num_loss_tokens", although all of them are predicted but in the first window.
  /// Windowing::llama_cpp is perplexity() of llama.cpp's tools/perplexity: rows length / 2 to length - 2 of each chunk.
  Windows(std::span<const std::int32_t> stream, const PerplexityOptions& options);

  std::int64_t count() const { return static_cast<std::int64_t>(windows_.size()); }
  const Window& operator[](std::int64_t i) const { return windows_[static_cast<std::size_t>(i)]; }
  /// Tokens predicted in all of them.
  std::int64_t scored() const;
  double weight() const;

  /// How many of the windows from `first` to `end` run together: of one length, and no more than the options say.
  std::int64_t together(std::int64_t first, std::int64_t end) const;
  /// The tokens of windows first .. first + count - 1, which have one length, one after the other.
  std::vector<std::int32_t> tokens(std::int64_t first, std::int64_t count) const;
  /// What of the stream is in any window: it begins at 0.
  std::span<const std::int32_t> covered() const;

 private:
  void cut_chunks(std::int64_t scored, const PerplexityOptions& options);
  void cut_overlapping(const PerplexityOptions& options);

  std::span<const std::int32_t> stream_;
  std::int64_t batch_tokens_;
  std::optional<std::int32_t> bos_;
  std::vector<Window> windows_;
};

}  // namespace pq::eval
