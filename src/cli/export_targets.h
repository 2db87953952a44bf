#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "io/quantized_checkpoint.h"

namespace CLI {
class App;
}

namespace pq::cli {

/// What `pq export` was asked for, whatever the target.
struct ExportRequest {
  std::string model;          ///< as it stands on the command line
  std::filesystem::path out;  ///< -o
  bool force = false;
  bool round_scales = false;  ///< scales that the form cannot hold are rounded instead of refused
};

/// What was made: the object of --json, and the same for people.
struct ExportOutcome {
  Json json;
  std::string text;
};

/// Writes a checkpoint in another program's form.
using Export = std::function<ExportOutcome(const io::QuantizedCheckpoint& checkpoint, const ExportRequest& request)>;

/// One form that a checkpoint can be exported to.
struct ExportTarget {
  std::string_view name;     ///< of --to
  std::string_view summary;  ///< for the help text
  /// Adds its own flags, in flag_group(name); the result runs after parsing and owns their values.
  std::function<Export(CLI::App& app)> declare;
};

ExportTarget gguf_target();
ExportTarget compressed_tensors_target();

/// The group of the help text that a target's own flags are in; with another target they are refused.
std::string flag_group(std::string_view target);

/// All of them, in the order of the help text.
std::vector<ExportTarget> export_targets();

}  // namespace pq::cli
