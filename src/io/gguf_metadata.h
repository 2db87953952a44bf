#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "io/gguf_file.h"

namespace pq::io {

/// An architecture of GGUF that is read here: the family whose arithmetic it has.
struct GgufArchitecture {
  std::string_view name;        ///< `general.architecture`
  std::string_view model_type;  ///< of config.json
  bool rope_pairs = false;      ///< Q and K have the two channels of a rotation as neighbours
  std::string_view also = {};   ///< another model_type whose files are written so
};
/// The architecture that a family's files have; null where none is known.
const GgufArchitecture* gguf_architecture_of(std::string_view model_type);

/// Typed access to a file's metadata. Throws FormatError for a value of another type, naming file and key.
class GgufMetadata {
 public:
  explicit GgufMetadata(const GgufFile& file) : file_(file) {}

  bool has(std::string_view key) const { return file_.find(key) != nullptr; }
  std::optional<std::int64_t> integer(std::string_view key) const;
  /// Whole numbers too.
  std::optional<double> number(std::string_view key) const;
  std::optional<bool> boolean(std::string_view key) const;
  std::optional<std::string> text(std::string_view key) const;
  std::optional<GgufArray> array(std::string_view key) const;
  /// A number that some files give once a block: all alike, or UnsupportedError.
  std::optional<std::int64_t> integer_of_blocks(std::string_view key) const;
  /// Throws FormatError without the key.
  std::int64_t required_integer(std::string_view key) const;

  /// Throws UnsupportedError for an architecture that is not read, naming it and those that are.
  const GgufArchitecture& architecture() const;
  /// "llama.block_count" for "block_count".
  std::string key(std::string_view name) const;
  const GgufFile& file() const { return file_; }

  [[noreturn]] void fail(std::string_view key, std::string_view what) const;

 private:
  const GgufFile& file_;
};

/// The decimal number that was meant by a float32 of the metadata: 1e-06, not 9.999999974752427e-07.
double as_written(double value);

}  // namespace pq::io
