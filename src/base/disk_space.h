#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

namespace pq {

/// What this user may still write to the disk that holds `directory`; nothing where the file system does not tell.
std::optional<std::uint64_t> free_disk_bytes(const std::filesystem::path& directory);

/// Throws SystemError that says how much `what` ("the checkpoint") needs and how much is free when the disk that holds
/// `directory` has less than `bytes` left for this user. A file system that does not tell is taken to have enough.
void require_free_space(const std::filesystem::path& directory, std::uint64_t bytes, std::string_view what);

}  // namespace pq
