#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

#include "io/hf_checkpoint.h"

struct XXH3_state_s;

namespace pq::io {

/// XXH3, 64 bits (https://github.com/Cyan4973/xxHash), as 16 hexadecimal digits: tells contents apart that differ by
/// accident or edit, not by attack.
std::string content_hash(std::span<const std::byte> bytes);
/// The same of a whole file. Throws what MappedFile throws.
std::string content_hash_of_file(const std::filesystem::path& path);

/// content_hash of bytes that come piece by piece.
class ContentHasher {
 public:
  ContentHasher();
  ~ContentHasher();
  ContentHasher(const ContentHasher&) = delete;
  ContentHasher& operator=(const ContentHasher&) = delete;

  void add(std::span<const std::byte> bytes);
  /// The text behind its length, so that neighbouring texts cannot run into each other.
  void add_text(std::string_view text);
  std::string digits() const;

 private:
  XXH3_state_s* state_;
};

/// Over config.json (its values, not its layout) and name, type, shape and bytes of every tensor of required_tensors,
/// hashed on thread_count() threads: equal for the same model in other shards.
std::string checkpoint_hash(const HfCheckpoint& checkpoint);

}  // namespace pq::io
