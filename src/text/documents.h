#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace pq {

/// Throws InputError "WHERE, line N: byte M of the line is not valid UTF-8".
void require_utf8(std::string_view text, std::string_view where);

/// Whether the text begins with a JSON object or array: what is no prose.
bool begins_as_json(std::string_view text);

/// The files that texts stand in: `path` itself, or of a directory all its .txt, .jsonl, .ndjson and .json files, plain
/// or gzip, whatever the case of their names, in the order of those; hidden files are left out. Throws InputError when
/// there are none.
std::vector<std::filesystem::path> document_files(const std::filesystem::path& path);

/// Documents of a text file, or of all those of a directory; plain or gzip. What a file is its content decides: JSON
/// lines (objects with a string `text` each), a JSON array of such objects or of strings, an object with one `text` or
/// a list of them; anything else is one document. A .txt is text whatever it holds; what is called .json or .jsonl must
/// be that. Throws InputError when there is no text at all, for tables and binary files and for text that is not UTF-8,
/// FormatError naming the line that is not JSON or has no `text`.
std::vector<std::string> read_documents(const std::filesystem::path& path);

}  // namespace pq
