#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "cli/export_targets.h"
#include "exchange/gguf_export.h"
#include "exchange/prefix_state.h"
#include "io/dtype.h"

namespace pq::cli {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view name = "gguf";

struct Options {
  std::string name;
  bool prefix_only = false;
  bool no_prefix_state = false;
  std::string beside;
  std::uint32_t state_version = exchange::newest_state_version;
};

/// The state beside a model: model.gguf -> model.prefix.state.
fs::path state_path(fs::path model) { return model.replace_extension(".prefix.state"); }

std::string loading_text(const io::QuantizedCheckpoint& checkpoint, const fs::path& model, const fs::path& state) {
  const fs::path folder = fs::absolute(state).parent_path();
  return fmt::format(
      "load the prefix, 16-bit as it is, into a slot of llama.cpp's server (begin every prompt with its ids, in that "
      "slot):\n"
      "  llama-server -m {} -fa on -np 1 --slot-save-path {}/\n"
      "  curl 'http://localhost:8080/slots/0?action=restore' -d '{{\"filename\":\"{}\"}}'\n"
      "  curl http://localhost:8080/completion -d '{{\"id_slot\":0,\"cache_prompt\":true,\"prompt\":[{},\"TEXT\"]}}'\n",
      model.empty() ? "MODEL.gguf" : model.string(), folder.string(), state.filename().string(),
      fmt::join(checkpoint.prefix().token_ids, ","));
}

/// Writes the state and says so.
void add_state(ExportOutcome& outcome, const io::QuantizedCheckpoint& checkpoint, const fs::path& state,
               const fs::path& model, const Options& options, bool replace) {
  exchange::PrefixStateOptions of_state{.replace = replace, .version = options.state_version};
  if (!options.beside.empty()) of_state.beside = options.beside;
  const exchange::PrefixState made = export_prefix_state(checkpoint, state, of_state);
  outcome.json["prefix_state"] = state.string();
  outcome.json["prefix_token_ids"] = checkpoint.prefix().token_ids;
  outcome.json["llama_state_version"] = options.state_version;
  outcome.json["value_basis"] = made.basis == exchange::ValueBasis::model ? "model" : "checkpoint";
  outcome.text += fmt::format("{}: the prefix of {} tokens as a sequence state (version {}), {}\n", state.string(),
                              made.positions, options.state_version, format_bytes(static_cast<double>(made.bytes)));
  outcome.text += loading_text(checkpoint, model, state);
}

ExportOutcome export_model(const io::QuantizedCheckpoint& checkpoint, const ExportRequest& request,
                           const Options& options) {
  const bool with_state = !options.no_prefix_state && !checkpoint.prefix().token_ids.empty();
  const fs::path state = state_path(request.out);
  if (with_state) exchange::check_state_target(state, request.force);
  exchange::GgufOptions of_model{
      .replace = request.force,
      .scales = request.round_scales ? exchange::ScaleRounding::round : exchange::ScaleRounding::refuse,
      .name = options.name};
  const exchange::GgufExport made = exchange::export_gguf(checkpoint, request.out, of_model);
  ExportOutcome outcome;
  outcome.json = {{"bytes", made.bytes},
                  {"tensors", made.tensors},
                  {"weights", io::dtype_name(made.weights)},
                  {"left_out", made.left_out},
                  {"largest_difference", made.difference.largest},
                  {"largest_relative_difference", made.difference.largest_relative}};
  const std::string difference =
      made.difference.largest == 0
          ? std::string("read back: every weight equal")
          : fmt::format("read back: weights moved by at most {:.3g} of the largest of their layer",
                        made.difference.largest_relative);
  outcome.text = fmt::format("{}: {} ({}), {}; {}\n", request.out.string(), precision_name(checkpoint.recipe()),
                             io::dtype_name(made.weights), format_bytes(static_cast<double>(made.bytes)), difference);
  for (const std::string& note : made.left_out) outcome.text += fmt::format("left out: {}\n", note);
  if (with_state) {
    try {
      add_state(outcome, checkpoint, state, request.out, options, request.force);
    } catch (const UnsupportedError& error) {
      log_warning("no prefix state: {}", error.what());
    }
  }
  return outcome;
}

ExportOutcome run(const io::QuantizedCheckpoint& checkpoint, const ExportRequest& request, const Options& options) {
  if (!options.beside.empty() && !options.prefix_only) {
    throw InputError("--beside", "is for a prefix alone", "add --prefix-only");
  }
  if (!options.prefix_only) return export_model(checkpoint, request, options);
  ExportOutcome outcome;
  add_state(outcome, checkpoint, request.out, options.beside, options, request.force);
  return outcome;
}

}  // namespace

ExportTarget gguf_target() {
  return {
      name, "one file for llama.cpp and what is built on it, with the prefix as a 16-bit sequence state beside it",
      [](CLI::App& app) -> Export {
        auto options = std::make_shared<Options>();
        const std::string group = flag_group(name);
        app.add_option("--name", options->name, "general.name of the file; without it the checkpoint's")
            ->option_text("TEXT")
            ->group(group);
        app.add_flag("--no-prefix-state", options->no_prefix_state, "Without PATH's .prefix.state")->group(group);
        app.add_flag("--prefix-only", options->prefix_only, "Write the sequence state alone, to PATH")->group(group);
        app.add_option("--beside", options->beside,
                       "With --prefix-only: the GGUF file that the state is for, which others may have made of the "
                       "same model; without it an export of OUT")
            ->option_text("MODEL.gguf")
            ->group(group);
        app.add_option("--llama-state-version", options->state_version,
                       "Version of sequence states that your llama.cpp reads (LLAMA_STATE_SEQ_VERSION)")
            ->option_text(fmt::format("N (default {})", exchange::newest_state_version))
            ->group(group);
        return [options](const io::QuantizedCheckpoint& checkpoint, const ExportRequest& request) {
          return run(checkpoint, request, *options);
        };
      }};
}

}  // namespace pq::cli
