#pragma once

#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

// What a file really is, where it is not what its name says: the one place that knows.

namespace pq {

/// What a reader is about to take a file for.
enum class FileKind { text, json, safetensors, gguf };

/// Throws InputError "PATH: is a Git LFS pointer, ..." for content that is of another kind than the reader expects and
/// that is known: a Git LFS pointer, a web page, an archive, a compressed, columnar or pickled file, text in UTF-16.
/// Content of no kind that is known passes, to be judged by its reader. `expected` text: whatever reads as text passes.
void check_file_kind(const std::filesystem::path& path, std::span<const std::byte> bytes, FileKind expected);

/// Whether the path leads to something, or is a link that leads nowhere.
bool exists_or_dangles(const std::filesystem::path& path);

/// Throws InputError for a path that leads nowhere: a link whose target is gone, a file whose download did not end, or
/// just "no such file". Says how to get it.
[[noreturn]] void refuse_missing(const std::filesystem::path& path);

/// "org/name" of a path inside the Hugging Face cache ("…/models--org--name/…").
std::optional<std::string> hub_repository(const std::filesystem::path& path);
/// "get it with: hf download org/name", with the name where the path tells it; inside a snapshot with its revision.
std::string how_to_download(const std::filesystem::path& path);

/// A file in `directory`, or where the Hugging Face programs download for it, whose download did not end
/// ("….incomplete", ".part", …); `name`: only one of a file that is called so.
std::optional<std::filesystem::path> unfinished_download(const std::filesystem::path& directory,
                                                         std::string_view name = {});

}  // namespace pq
