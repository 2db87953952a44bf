#include "program/command_line.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <charconv>
#include <cmath>
#include <type_traits>

#include "base/communicator.h"
#include "base/error.h"
#include "base/launch.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "base/phase_timer.h"
#include "base/suggest.h"
#include "base/version.h"
#include "program/completion.h"
#include "program/ending.h"
#include "program/output.h"
#include "program/verb_list.h"

namespace pq {
namespace {

bool is_device(std::string_view name) {
  if (name == "cpu" || name == "cuda") return true;
  if (!name.starts_with("cuda:")) return false;
  name.remove_prefix(5);
  int index = 0;
  const auto [end, code] = std::from_chars(name.data(), name.data() + name.size(), index);
  return code == std::errc{} && end == name.data() + name.size() && index >= 0;
}

void add_common_options(CLI::App& app, CommonOptions& common, bool has_devices) {
  const std::string group = "Common options";
  app.add_flag("--json", common.json, "One JSON object on stdout instead of text")->group(group);
  app.add_option("--threads", common.threads, "Threads to use; 0: all that this process may use")
      ->check(CLI::Range(0, 4096))
      ->option_text("N (default 0)")
      ->group(group);
  if (has_devices) {
    app.add_option("--device", common.device, "Where to compute: cpu, cuda or cuda:N")
        ->option_text("DEVICE (default cpu)")
        ->group(group);
  }
  auto* quiet = app.add_flag("-q,--quiet", common.quiet, "No progress on stderr")->group(group);
  app.add_flag("-v,--verbose", common.verbose, "More about what is going on, on stderr")->group(group)->excludes(quiet);
  app.set_help_flag("-h,--help", "This text")->group(group);
}

std::vector<std::string> long_flags(const CLI::App& app) {
  std::vector<std::string> flags;
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) flags.push_back("--" + name);
  }
  return flags;
}

/// Complains about the first argument that no option took. Does nothing when there is none.
void refuse_extras(const CLI::App& app) {
  const std::vector<std::string> extras = app.remaining();
  const auto flag =
      std::find_if(extras.begin(), extras.end(), [](const std::string& e) { return e.size() > 1 && e[0] == '-'; });
  if (flag != extras.end()) {
    const std::string name = flag->substr(0, flag->find('='));
    const std::string near = nearest(name, long_flags(app));
    throw InputError(
        app.get_name(), fmt::format("unknown flag '{}'", name),
        near.empty() ? fmt::format("see {} --help", app.get_name()) : fmt::format("did you mean '{}'?", near));
  }
  if (!extras.empty()) {
    throw InputError(app.get_name(), fmt::format("unexpected argument '{}'", extras.front()),
                     fmt::format("see {} --help", app.get_name()));
  }
}

/// What is wrong with a number of a type, or empty.
template <typename T>
std::string complaint(std::string_view text, std::string_view kind) {
  T value{};
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = end == text.data() + text.size() && !text.empty();
  bool finite = true;
  if constexpr (std::is_floating_point_v<T>) finite = std::isfinite(value);
  if (whole && code == std::errc{} && finite) return {};
  if (whole && code == std::errc::result_out_of_range) return fmt::format("{} is out of range", text);
  return fmt::format("'{}' is not {}", text, kind);
}

/// The library takes a number beyond 64 bits for the nearest within, a negative one for a large one where there is no
/// sign, 010 for 8, and nothing for 0. Every flag with a number is read strictly instead: decimal, and as it stands.
void check_numbers(CLI::App& app) {
  for (CLI::Option* option : app.get_options([](const CLI::Option*) { return true; })) {
    const std::string type = option->get_type_name();
    const auto strict = [type](std::string& text) -> std::string {
      if (text.size() > 1 && text[0] == '+' && text[1] != '-') text.erase(0, 1);
      if (type.starts_with("FLOAT")) return complaint<double>(text, "a number");
      std::string problem = complaint<std::int64_t>(text, "a whole number");
      if (type.starts_with("UINT")) problem = complaint<std::uint64_t>(text, "a whole number from 0 up");
      const std::size_t sign = text.starts_with('-') ? 1 : 0;
      while (problem.empty() && text.size() > sign + 1 && text[sign] == '0') text.erase(sign, 1);
      return problem;
    };
    if (type.starts_with("INT") || type.starts_with("UINT") || type.starts_with("FLOAT")) {
      option->transform(CLI::Validator(strict, ""));
    }
  }
}

void parse(CLI::App& app, int argc, char** argv) {
  app.allow_extras();
  std::vector<std::string> reversed(argv + 2, argv + argc);
  std::reverse(reversed.begin(), reversed.end());
  try {
    app.parse(std::move(reversed));
  } catch (const CLI::CallForHelp&) {
    throw;
  } catch (const CLI::ParseError& error) {
    refuse_extras(app);  // a misspelt flag is the likelier cause of whatever else is wrong
    throw InputError(app.get_name(), error.what(), fmt::format("see {} --help", app.get_name()));
  }
  refuse_extras(app);
}

/// Leaves out of the help what CLI11 adds to a name and a user need not read ("TEXT", "Excludes: --verbose").
void tidy_help(CLI::App& app) {
  app.get_formatter()->column_width(36);
  for (CLI::Option* option : app.get_options([](const CLI::Option*) { return true; })) {
    std::string text = option->get_option_text();
    const bool takes_value = option->get_items_expected_max() > 0;
    if (text.empty() && takes_value && !option->get_positional()) text = option->get_type_name();
    if (option->get_required()) text += text.empty() ? "(required)" : " (required)";
    option->option_text(text.empty() ? " " : text);
  }
}

int run_verb(const Program& program, const Verb& verb, int argc, char** argv) {
  const VerbRow* row = find_verb(verb.name);
  CommonOptions common;
  Action action;
  const std::unique_ptr<CLI::App> declared = declare_verb(program, verb, common, &action);
  CLI::App& app = *declared;
  tidy_help(app);
  check_numbers(app);
  try {
    parse(app, argc, argv);
  } catch (const CLI::CallForHelp&) {
    print_result(app.help());
    return 0;
  }
  if (!is_device(common.device)) {
    throw InputError("--device", fmt::format("'{}' is not a device", common.device), "one of: cpu, cuda, cuda:N");
  }
  if (!launch().one_process() && row != nullptr && !row->several_processes) {
    throw UnsupportedError(app.get_name(), "works in one process",
                           fmt::format("mpirun is for {}", verbs_of_several_processes()));
  }
  set_log_level(common.quiet ? LogLevel::quiet : common.verbose ? LogLevel::verbose : LogLevel::normal);
  set_thread_count(common.threads);
  if (program.apply) program.apply(common);
  const PhaseTimer timer(app.get_name());
  return action();
}

/// What the shells' completions are made of; no part of the help.
void print_completion(const Program& program, std::string_view shell) {
  std::vector<FlagRow> rows = flag_rows(program);
  if (program.other_flags) {
    const auto has_verb = [&](const FlagRow& other) {
      return std::any_of(program.verbs.begin(), program.verbs.end(),
                         [&](const Verb& v) { return v.name == other.verb; });
    };
    for (FlagRow& other : parse_flag_table(program.other_flags())) {
      if (!has_verb(other)) rows.push_back(std::move(other));
    }
  }
  print_result(completion_script(shell, rows));
}

bool is_help(std::string_view word) { return word == "help" || word == "--help" || word == "-h"; }

int dispatch(const Program& program, int argc, char** argv) {
  const std::string word = argc > 1 ? argv[1] : "help";
  if (word == "--version" || word == "-V") {
    print_result(fmt::format("{} {}\n", program.name, version()));
    return 0;
  }
  if (is_help(word)) {
    if (argc <= 2 || is_help(argv[2])) {
      print_result(overview());
      return 0;
    }
    if (const std::string_view what = argv[2]; what == "--flags") {
      print_result(flag_table(flag_rows(program)));
      return 0;
    } else if (what == "--completion") {
      print_completion(program, argc > 3 ? argv[3] : "");
      return 0;
    }
    std::string help = "--help";
    std::vector<char*> swapped{argv[0], argv[2], help.data(), nullptr};
    return dispatch(program, 3, swapped.data());
  }
  const auto verb =
      std::find_if(program.verbs.begin(), program.verbs.end(), [&](const Verb& v) { return v.name == word; });
  if (verb != program.verbs.end()) return run_verb(program, *verb, argc, argv);

  if (program.forward && find_verb(word) != nullptr) return program.forward(argc, argv);
  if (word.starts_with('-'))
    throw InputError("pq", fmt::format("unknown flag '{}'", word), "the verb comes first; see pq --help");
  std::vector<std::string> known;
  for (const VerbRow& row : verbs()) known.emplace_back(row.name);
  throw InputError("pq", fmt::format("unknown verb '{}'", word), did_you_mean(word, known));
}

}  // namespace

std::unique_ptr<CLI::App> declare_verb(const Program& program, const Verb& verb, CommonOptions& common,
                                       Action* action) {
  const VerbRow* row = find_verb(verb.name);
  auto app = std::make_unique<CLI::App>(row == nullptr ? "" : std::string(row->summary), "pq " + verb.name);
  Action declared = verb.declare(*app, common);
  if (action != nullptr) *action = std::move(declared);
  add_common_options(*app, common, program.has_devices);
  return app;
}

std::vector<FlagRow> flag_rows(const Program& program) {
  std::vector<FlagRow> rows;
  for (const Verb& verb : program.verbs) {
    CommonOptions common;
    const std::vector<FlagRow> of_verb = flag_rows(verb.name, *declare_verb(program, verb, common));
    rows.insert(rows.end(), of_verb.begin(), of_verb.end());
  }
  return rows;
}

int run_program(const Program& program, int argc, char** argv) {
  occupy_standard_streams();
  install_signal_handlers();
  int code = 0;
  try {
    code = dispatch(program, argc, argv);
    flush_stdout();
  } catch (...) {
    code = end_with_current_exception();
    if (code != 0) return code;
  }
  Communicator::finish();
  return code;
}

void add_help_text(CLI::App& app, std::string_view text) {
  const std::string before = app.get_footer();
  app.footer(before.empty() || before == "\n" ? std::string(text) : fmt::format("{}\n\n{}", before, text));
}

}  // namespace pq
