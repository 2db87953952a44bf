#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/suggest.h"
#include "cli/export_targets.h"
#include "cli/verbs.h"
#include "program/output.h"

namespace pq::cli {

std::vector<ExportTarget> export_targets() { return {gguf_target(), compressed_tensors_target()}; }

std::string flag_group(std::string_view target) { return fmt::format("--to {}", target); }

namespace {

struct Options {
  ExportRequest request;
  std::string target;
  std::map<std::string, Export, std::less<>> exports;
};

/// A target's flags are a group of their own in the help text.
void refuse_flags_of_other_targets(const CLI::App& app, std::string_view target) {
  for (const ExportTarget& other : export_targets()) {
    if (other.name == target) continue;
    for (const CLI::Option* option : app.get_options()) {
      if (option->count() == 0 || option->get_group() != flag_group(other.name)) continue;
      throw InputError(option->get_name(), fmt::format("is for --to {}, and has no meaning for {}", other.name, target),
                       "leave it out");
    }
  }
}

int run_export(const Options& options, const CLI::App& app, const CommonOptions& common) {
  const auto found = options.exports.find(options.target);
  if (found == options.exports.end()) {
    std::vector<std::string> names;
    for (const auto& [name, run] : options.exports) names.push_back(name);
    throw InputError(fmt::format("--to {}", options.target), "there is no such target",
                     did_you_mean(options.target, names));
  }
  refuse_flags_of_other_targets(app, options.target);
  const auto checkpoint = io::QuantizedCheckpoint::open(options.request.model);
  ExportOutcome outcome = found->second(checkpoint, options.request);
  if (common.json) {
    Json json{{"model", options.request.model}, {"to", options.target}, {"output", options.request.out.string()}};
    json.update(outcome.json);
    print_json(json);
  } else {
    print_result(outcome.text);
  }
  return 0;
}

}  // namespace

Verb export_verb() {
  return {"export", [](CLI::App& app, const CommonOptions& common) -> Action {
            auto options = std::make_shared<Options>();
            app.add_option("OUT", options->request.model, "A checkpoint that pq quantize wrote")->required();
            std::vector<std::string> targets;
            for (const ExportTarget& target : export_targets()) {
              targets.push_back(fmt::format("{}: {}", target.name, target.summary));
              options->exports.emplace(target.name, target.declare(app));
            }
            app.add_option("--to", options->target, fmt::format("What to export to; {}", fmt::join(targets, "; ")))
                ->required()
                ->option_text("TARGET");
            app.add_option("-o,--output", options->request.out, "What to write; it appears when it is complete")
                ->required()
                ->option_text("PATH");
            app.add_flag("--force", options->request.force, "Replace an earlier export at PATH");
            app.add_flag(
                "--round-scales", options->request.round_scales,
                "Round scales that are no 16-bit numbers, which moves the weights; without it that is an error");
            add_help_text(app,
                          "Examples:\n"
                          "  pq quantize MODEL -o OUT --for llama.cpp\n"
                          "  pq export OUT --to gguf -o model.gguf\n"
                          "  pq export OUT --to gguf --prefix-only --beside other.gguf -o prefix.state\n"
                          "  pq export OUT --to compressed-tensors -o DIR");
            return [options, &app, &common] { return run_export(*options, app, common); };
          }};
}

}  // namespace pq::cli
