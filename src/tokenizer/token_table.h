#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace pq {

/// Tokens by id and ids by token, in one arena.
class TokenTable {
 public:
  /// Ids are below this, so that a hostile id cannot make the table huge. (The largest public vocabularies have a
  /// million.)
  static constexpr std::int64_t max_tokens = std::int64_t{1} << 22;

  enum class Added { yes, duplicate_token, duplicate_id, id_out_of_range };
  Added add(std::string_view token, std::uint64_t id);

  /// The id, or -1.
  std::int32_t find(std::string_view token) const noexcept;
  /// Whether `id` names a token.
  bool has(std::int64_t id) const noexcept {
    return id >= 0 && id < static_cast<std::int64_t>(entries_.size()) && entries_[static_cast<std::size_t>(id)].used;
  }
  /// The token of an id that has() one.
  std::string_view text(std::int32_t id) const noexcept {
    const Entry& entry = entries_[static_cast<std::size_t>(id)];
    return std::string_view(arena_).substr(entry.begin, entry.size);
  }
  /// Number of tokens.
  std::size_t count() const noexcept { return count_; }
  /// One more than the largest id.
  std::size_t id_end() const noexcept { return entries_.size(); }

 private:
  struct Entry {
    std::uint64_t begin = 0;
    std::uint32_t size = 0;
    bool used = false;
  };
  void grow();
  /// The slot of `token`, or the free slot where it would stand.
  std::size_t slot_of(std::string_view token) const noexcept;

  std::string arena_;
  std::vector<Entry> entries_;
  std::vector<std::int32_t> slots_;  // open addressing, -1 is free
  std::size_t count_ = 0;
};

}  // namespace pq
