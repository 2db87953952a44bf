#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace pq {

/// Pairs of token texts, in the order of their rank.
class MergeList {
 public:
  void add(std::string_view left, std::string_view right) {
    entries_.push_back({arena_.size(), left.size(), arena_.size() + left.size(), right.size()});
    arena_.append(left).append(right);
  }
  /// "left right", with one space between. Call split_line() for a line with more of them.
  void add_line(std::string_view line) {
    add(line, {});
    if (const std::size_t space = line.find(' '); space != std::string_view::npos) split_line(size() - 1, space);
  }
  /// Cuts the line added as entry `rank` at the space `space` bytes from its start.
  void split_line(std::size_t rank, std::size_t space) {
    Entry& entry = entries_[rank];
    const std::size_t end = rank + 1 < entries_.size() ? entries_[rank + 1].left_begin : arena_.size();
    entry.left_size = space;
    entry.right_begin = entry.left_begin + space + 1;
    entry.right_size = end - entry.right_begin;
  }
  std::size_t size() const noexcept { return entries_.size(); }
  std::string_view left(std::size_t rank) const {
    return std::string_view(arena_).substr(entries_[rank].left_begin, entries_[rank].left_size);
  }
  std::string_view right(std::size_t rank) const {
    return std::string_view(arena_).substr(entries_[rank].right_begin, entries_[rank].right_size);
  }

 private:
  struct Entry {
    std::size_t left_begin;
    std::size_t left_size;
    std::size_t right_begin;
    std::size_t right_size;
  };
  std::string arena_;
  std::vector<Entry> entries_;
};

}  // namespace pq
