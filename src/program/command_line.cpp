#include "program/command_line.h"

#include <fmt/color.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <new>
#include <system_error>
#include <thread>

#include "base/communicator.h"
#include "base/error.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "base/progress.h"
#include "base/suggest.h"
#include "base/version.h"

namespace pq {
namespace {

/// Whoever reads stdout has gone. Not an error, and nobody is left to tell.
struct ReaderGone {};

extern "C" void end_on_signal(int signal) {
  static constexpr std::string_view message = "\ninterrupted\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, message.data(), message.size());
  ::raise(signal);  // SA_RESETHAND has put the default action back: the parent sees the signal itself
}

void install_signal_handlers() {
  std::signal(SIGPIPE, SIG_IGN);        // a failed write is noticed where it happens
  if (!launch().one_process()) return;  // the launcher ends all by signals, and says why
  for (const int number : {SIGINT, SIGTERM}) {
    struct sigaction old {};
    if (::sigaction(number, nullptr, &old) == 0 && old.sa_handler == SIG_IGN)
      continue;  // started by nohup or in the background
    struct sigaction action {};
    action.sa_handler = end_on_signal;
    action.sa_flags = static_cast<int>(SA_RESETHAND | SA_NODEFER);
    ::sigaction(number, &action, nullptr);
  }
}

/// The first line alone, without characters that could steer a terminal.
std::string printable_line(std::string_view text) {
  std::string line(text.substr(0, text.find('\n')));
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = c == '\t' ? ' ' : '?';
  }
  return line;
}

void print_error(std::string_view text) {
  Progress::clear_line();
  std::string tag = "error:";
  if (stderr_has_color()) tag = fmt::format(fmt::emphasis::bold | fmt::fg(fmt::terminal_color::red), "error:");
  const std::string line = fmt::format("{} {}\n", tag, printable_line(text));
  std::fwrite(line.data(), 1, line.size(), stderr);
}

[[noreturn]] void throw_stdout_error() {
  if (errno == EPIPE) throw ReaderGone{};
  throw_errno("stdout", "cannot write", "free some disk space or write elsewhere");
}

void flush_stdout() {
  if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0) throw_stdout_error();
}

/// How the program ends. `message` is empty where nothing went wrong.
struct Ending {
  int code = 0;
  std::string message{};
};

Ending ending_of_current_exception() {
  try {
    throw;
  } catch (const ReaderGone&) {
    return {};
  } catch (const Error& error) {
    return {error.exit_code(), error.what()};
  } catch (const std::bad_alloc&) {
    return {2,
            "memory: there is not enough of it; close other programs, or use a smaller --threads or a smaller model"};
  } catch (const std::system_error& error) {
    return {2, error.what()};
  } catch (const std::exception& error) {
    // LibTorch reports exhausted memory as an ordinary error, with a stack trace below the first line.
    const std::string line = printable_line(error.what());
    if (line.find("llocate memory") != std::string::npos || line.find("out of memory") != std::string::npos) {
      return {2, fmt::format("memory: {}; use a smaller model, or a device with more memory", line)};
    }
    return {1, fmt::format("internal error: {}; please report this with the command that caused it", line)};
  } catch (...) {
    return {1, "internal error: an exception of unknown type; please report this with the command that caused it"};
  }
}

/// Reports an error and, under a launcher, ends the other ranks, which may wait for this one for ever. Most errors (a
/// wrong flag, a damaged file) all ranks meet at once: the first rank reports them, and ends the others while they wait
/// here. A rank that is still there after that reports an error of its own.
void fail(const Ending& ending) {
  const int rank = launch().rank;
  if (rank > 0) std::this_thread::sleep_for(std::chrono::milliseconds(1000 + 100 * std::min(rank, 20)));
  print_error(rank > 0 ? fmt::format("rank {}: {}", rank, ending.message) : ending.message);
  Communicator::abort(ending.code);
}

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

/// "a, b and c".
std::string verbs_of_several_processes() {
  std::vector<std::string_view> names;
  for (const VerbRow& row : verbs()) {
    if (row.several_processes) names.push_back(row.name);
  }
  const std::string_view last = names.back();
  names.pop_back();
  return fmt::format("{} and {}", fmt::join(names, ", "), last);
}

int run_verb(const Program& program, const Verb& verb, int argc, char** argv) {
  const auto row = std::find_if(verbs().begin(), verbs().end(), [&](const VerbRow& r) { return r.name == verb.name; });
  CLI::App app(row == verbs().end() ? "" : std::string(row->summary), "pq " + verb.name);
  CommonOptions common;
  const Action action = verb.declare(app, common);
  add_common_options(app, common, program.has_devices);
  tidy_help(app);
  try {
    parse(app, argc, argv);
  } catch (const CLI::CallForHelp&) {
    print_result(app.help());
    return 0;
  }
  if (!is_device(common.device)) {
    throw InputError("--device", fmt::format("'{}' is not a device", common.device), "one of: cpu, cuda, cuda:N");
  }
  if (!launch().one_process() && row != verbs().end() && !row->several_processes) {
    throw UnsupportedError(app.get_name(), "works in one process",
                           fmt::format("mpirun is for {}", verbs_of_several_processes()));
  }
  set_log_level(common.quiet ? LogLevel::quiet : common.verbose ? LogLevel::verbose : LogLevel::normal);
  set_thread_count(common.threads);
  if (program.apply) program.apply(common);
  return action();
}

std::string overview() {
  std::string text =
      "pq quantizes Hugging Face language models to 4 and 8 bits: it finds a model's outlier tokens, puts them in "
      "front of the\n"
      "KV cache, quantizes weights, activations and KV cache, and shows what that cost.\n\n"
      "Usage: pq VERB [ARGUMENTS] [FLAGS]\n\nVerbs:\n";
  for (const VerbRow& row : verbs()) text += fmt::format("  {:<10} {}\n", row.name, row.summary);
  text +=
      "\nMODEL is a directory in Hugging Face layout, or an org/name that is in the local Hugging Face cache.\n\n"
      "Examples:\n"
      "  pq quantize MODEL -o OUT --recipe w4a4kv4-static   quantize weights, activations and KV cache to 4 bits\n"
      "  pq eval OUT --text wiki.test.raw --against MODEL   perplexity, and the distance from the original\n"
      "  pq compare MODEL --text wiki.test.raw              what each step of the method brings on this model\n"
      "  pq run OUT --prompt 'Once upon a time'             continue a text, fast\n"
      "  pq bench MODEL OUT                                 their speed, beside the machine's limits\n"
      "  pq inspect OUT                                     recipe, prefix, scales and sizes\n"
      "\n`pq VERB --help` lists the flags of a verb. `pq --version` prints the version.\n";
  return text;
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
    std::string help = "--help";
    std::vector<char*> swapped{argv[0], argv[2], help.data(), nullptr};
    return dispatch(program, 3, swapped.data());
  }
  const auto verb =
      std::find_if(program.verbs.begin(), program.verbs.end(), [&](const Verb& v) { return v.name == word; });
  if (verb != program.verbs.end()) return run_verb(program, *verb, argc, argv);

  std::vector<std::string> known;
  for (const VerbRow& row : verbs()) {
    if (row.name == word && program.forward) return program.forward(argc, argv);
    known.emplace_back(row.name);
  }
  if (word.starts_with('-'))
    throw InputError("pq", fmt::format("unknown flag '{}'", word), "the verb comes first; see pq --help");
  throw InputError("pq", fmt::format("unknown verb '{}'", word), did_you_mean(word, known));
}

}  // namespace

const std::vector<VerbRow>& verbs() {
  static const std::vector<VerbRow> rows{
      {"run", "Continue a text with a model, on the integer runtime", false},
      {"chat", "Talk with a model, on the integer runtime", false},
      {"quantize", "Quantize a model: find the prefix, rotate, search scales, write a checkpoint", true, true},
      {"compare", "Measure each step of the method on one model, as a table", true, true},
      {"eval", "Perplexity of a model or a quantized checkpoint, and its distance from another", false, true},
      {"analyze", "Show a model's outlier tokens and the prefix they call for", true},
      {"bench", "Measure speed beside the machine's own limits", false},
      {"verify", "Compare the runtime with the reference arithmetic on this machine", false},
      {"inspect", "Show what a checkpoint holds: recipe, tensors, sizes, prefix, scales", false},
      {"tokenize", "Turn text into token ids: JSON strings on stdin, JSON arrays on stdout", false},
  };
  return rows;
}

int run_program(const Program& program, int argc, char** argv) {
  install_signal_handlers();
  int code = 0;
  try {
    code = dispatch(program, argc, argv);
    flush_stdout();
  } catch (...) {
    const Ending ending = ending_of_current_exception();
    code = ending.code;
    if (!ending.message.empty()) {
      fail(ending);
      return code;
    }
  }
  Communicator::finish();
  return code;
}

void add_help_text(CLI::App& app, std::string_view text) {
  const std::string before = app.get_footer();
  app.footer(before.empty() || before == "\n" ? std::string(text) : fmt::format("{}\n\n{}", before, text));
}

void print_result(std::string_view text) {
  if (launch().rank != 0) return;
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size()) throw_stdout_error();
}

void print_json(const Json& json) { print_result(json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"); }

}  // namespace pq
