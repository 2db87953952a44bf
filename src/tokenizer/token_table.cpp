#include "tokenizer/token_table.h"

#include <functional>
#include <limits>

namespace pq {

std::size_t TokenTable::slot_of(std::string_view token) const noexcept {
  const std::size_t mask = slots_.size() - 1;
  std::size_t slot = std::hash<std::string_view>{}(token)&mask;
  while (slots_[slot] >= 0 && text(slots_[slot]) != token) slot = (slot + 1) & mask;
  return slot;
}

void TokenTable::grow() {
  std::vector<std::int32_t> old(slots_.empty() ? 1024 : slots_.size() * 2, -1);
  old.swap(slots_);
  for (const std::int32_t id : old) {
    if (id >= 0) slots_[slot_of(text(id))] = id;
  }
}

TokenTable::Added TokenTable::add(std::string_view token, std::uint64_t id) {
  if (id >= static_cast<std::uint64_t>(max_tokens) || token.size() > std::numeric_limits<std::uint32_t>::max()) {
    return Added::id_out_of_range;
  }
  if (count_ * 2 >= slots_.size()) grow();
  const std::size_t slot = slot_of(token);
  if (slots_[slot] >= 0) return Added::duplicate_token;
  if (has(static_cast<std::int64_t>(id))) return Added::duplicate_id;
  if (id >= entries_.size()) entries_.resize(static_cast<std::size_t>(id) + 1);
  entries_[static_cast<std::size_t>(id)] = {arena_.size(), static_cast<std::uint32_t>(token.size()), true};
  arena_ += token;
  slots_[slot] = static_cast<std::int32_t>(id);
  ++count_;
  return Added::yes;
}

std::int32_t TokenTable::find(std::string_view token) const noexcept {
  return slots_.empty() ? -1 : slots_[slot_of(token)];
}

}  // namespace pq
