#pragma once

#include <cstdint>
#include <filesystem>

namespace pq::io {

/// Throws SystemError that says how much is needed and how much is free when the disk that holds `directory` has less
/// than `bytes` left for this user. A file system that does not tell is taken to have enough.
void require_free_space(const std::filesystem::path& directory, std::uint64_t bytes);

}  // namespace pq::io
