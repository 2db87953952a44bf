#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace pq {

/// Flags that every verb of both programs takes. run_program declares and applies them before the verb's action runs.
struct CommonOptions {
  bool json = false;           ///< one JSON object on stdout instead of a table
  int threads = 0;             ///< 0: as many as the process may use
  bool quiet = false;          ///< no progress on stderr; errors and warnings stay
  bool verbose = false;        ///< more lines on stderr
  std::string device = "cpu";  ///< "cpu", "cuda" or "cuda:N"; a flag only in programs that have devices
};

/// What a verb does once its flags are parsed. It returns the process' exit code.
using Action = std::function<int()>;

/// One word after the program's name. `declare` adds flags to the app and returns the action, which owns their values;
/// `common` is filled in before the action runs.
struct Verb {
  std::string name;  ///< a row of verbs() in program/verb_list.h
  std::function<Action(CLI::App& app, const CommonOptions& common)> declare;
};

struct Program {
  std::string name;                                   ///< "pq" or "pq-lab"
  bool has_devices = false;                           ///< its verbs take --device
  std::vector<Verb> verbs;                            ///< those that this program runs itself
  std::function<int(int argc, char** argv)> forward;  ///< runs the other program's verbs; empty: they are unknown here
  std::function<void(const CommonOptions&)> apply = {};  ///< settings beyond threads and log level, before the action
  std::function<std::string()> other_flags = {};         ///< the other program's `help --flags`, for completions
};

/// The parser of a verb, which fills `common`, and through `action`, if asked for, what the verb does.
std::unique_ptr<CLI::App> declare_verb(const Program& program, const Verb& verb, CommonOptions& common,
                                       Action* action = nullptr);

struct FlagRow;  // program/completion.h
/// The flags of every verb that the program runs itself, in the order of their declaration.
std::vector<FlagRow> flag_rows(const Program& program);

/// Parses the command line and runs the verb. Errors are one line on stderr, "error: WHERE: WHAT; REMEDY". Returns the
/// exit code: the action's, 2 for a pq::Error, a wrong command line, memory that ran out or a refusal of the system, 1
/// for any other exception (a bug). Ctrl-C ends the process by its signal (130 in a shell). A reader that closes stdout
/// early ends the program quietly with 0. Under mpirun an error of one process ends all; where all meet the same one,
/// the first process alone reports it.
int run_program(const Program& program, int argc, char** argv);

/// Appends a paragraph to what `--help` shows below the flags.
void add_help_text(CLI::App& app, std::string_view text);

}  // namespace pq
