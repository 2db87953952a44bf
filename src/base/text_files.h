#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>

#include "base/json.h"

namespace pq {

/// The text files that stand beside a model's weights ("config.json", "tokenizer.json"): those of a directory, or what
/// stands in their place where a model comes as one file.
class TextFiles {
 public:
  /// A text by its name, made when it is asked for.
  using Texts = std::map<std::string, std::function<std::string()>, std::less<>>;

  explicit TextFiles(std::filesystem::path directory);
  TextFiles(std::filesystem::path file, Texts texts);

  /// Also where it is a link that leads nowhere, which read() says.
  bool has(std::string_view name) const;
  /// Throws what read_text_file throws, and what check_file_kind does for a .json.
  std::string read(std::string_view name) const;
  /// Throws FormatError too.
  Json json(std::string_view name) const;
  /// "DIR/tokenizer.json", or "MODEL.gguf (tokenizer.json)", for errors.
  std::string place(std::string_view name) const;

 private:
  std::filesystem::path path_;
  bool in_directory_;
  Texts texts_;
};

}  // namespace pq
