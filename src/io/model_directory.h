#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace pq::io {

/// Throws InputError or UnsupportedError for a directory that holds no checkpoint with safetensors, and says what it
/// holds instead and what to do: an adapter alone, PyTorch pickles, GGUF, weights of another program or name, a
/// download that did not end, nothing.
void check_model_directory(const std::filesystem::path& directory);

/// The shards of a directory without an index, by their names "model-00002-of-00003.safetensors", in order; empty when
/// it has none. Throws InputError naming those that are missing.
std::vector<std::string> shards_without_index(const std::filesystem::path& directory);

}  // namespace pq::io
