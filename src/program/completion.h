#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace CLI {
class App;
}

namespace pq {

/// A flag of a verb, as shells complete it.
struct FlagRow {
  std::string verb;
  std::string name;        ///< "--prompt"
  std::string short_name;  ///< "-p"; empty: it has none
  bool takes_value = false;
  std::vector<std::string> choices;  ///< of the value; empty: anything
  std::string help;

  bool operator==(const FlagRow&) const = default;
};

/// Those of a verb's parser, in the order of their declaration.
std::vector<FlagRow> flag_rows(std::string_view verb, const CLI::App& app);

/// The rows as text, one a line, for the other program to read.
std::string flag_table(const std::vector<FlagRow>& rows);
/// Lines that are none are left out.
std::vector<FlagRow> parse_flag_table(std::string_view table);

/// What "bash", "zsh" or "fish" needs to complete verbs, flags and their values. Throws InputError for another shell.
std::string completion_script(std::string_view shell, const std::vector<FlagRow>& rows);

}  // namespace pq
