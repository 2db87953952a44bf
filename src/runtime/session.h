#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <vector>

#include "runtime/model.h"

namespace pq::runtime {

struct SessionTokens;

/// One sequence of tokens behind a model's prefix, with its KV cache. Sessions over one model are independent; one
/// session is used by one thread at a time.
class Session {
 public:
  /// Room for `capacity` tokens, the prefix not counted. Memory is taken as the session grows. Throws InputError for a
  /// capacity below 1 or beyond what the system can address.
  Session(std::shared_ptr<const Model> model, std::int64_t capacity);
  ~Session();
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;

  const std::shared_ptr<const Model>& model() const;
  /// Tokens so far, the prefix not counted.
  std::int64_t length() const;
  std::int64_t capacity() const;

  /// Runs the model over `tokens`, after what is there. Nothing changes when it throws: InputError for a token outside
  /// the vocabulary, or more tokens than the session has room for (the message says how many it holds).
  void append(std::span<const std::int32_t> tokens);
  /// [vocab_size], of the token after the last one; valid until the session changes. Computed when asked for. Throws
  /// InputError for a session without tokens, or one truncated since its last append.
  std::span<const float> logits();

  /// A copy with the same capacity: it goes on from here on its own.
  Session fork() const;
  /// Forgets all but the first `length` tokens. logits() needs an append first, unless nothing was forgotten. Throws
  /// InputError unless 0 <= length <= length().
  void truncate(std::int64_t length);

  /// Writes the cache to `path`; load() goes on from there with the same model (shape and recipe are checked, weights
  /// are not). Throws SystemError (disk full).
  void save(const std::filesystem::path& path) const;
  /// Throws FormatError for a damaged file, InputError for one of another model, SystemError when it cannot be read.
  static Session load(std::shared_ptr<const Model> model, const std::filesystem::path& path);

 private:
  struct State;
  explicit Session(std::unique_ptr<State> state);
  static void check(std::span<const SessionTokens> batch);
  static std::vector<float> advance(std::span<const SessionTokens> batch);
  friend void append_batch(std::span<const SessionTokens> batch);

  std::unique_ptr<State> state_;
};

/// New tokens of a session.
struct SessionTokens {
  Session* session;
  std::span<const std::int32_t> tokens;
};

/// Session::append for several different sessions over one model, through the same weights at once: any number of
/// tokens each, so that some may be reading a prompt while others generate. The logits of those that got tokens are
/// there afterwards. Every session gets the values that appending to it alone gives, within float rounding; but a
/// dynamic per-tensor activation scale is that of a pass, which is up to most_rows tokens of all sessions (in order),
/// as it is that of up to most_rows tokens of the one session in append(). Nothing changes when it throws InputError
/// (as Session::append; sessions of several models; one session twice).
void append_batch(std::span<const SessionTokens> batch);

}  // namespace pq::runtime
