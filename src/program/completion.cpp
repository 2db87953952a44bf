#include "program/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>

#include "base/error.h"
#include "program/shell_quote.h"
#include "program/verb_list.h"

namespace pq {
namespace {

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (;;) {
    const std::size_t end = std::min(text.find(separator), text.size());
    parts.emplace_back(text.substr(0, end));
    if (end == text.size()) return parts;
    text.remove_prefix(end + 1);
  }
}

/// "8|16 (default 16)" names its values, "FILE|NAME" and "N (default 0)" do not.
std::vector<std::string> choices_of(const std::string& option_text) {
  const std::string values = option_text.substr(0, option_text.find(' '));
  const bool has_capitals = std::any_of(values.begin(), values.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  if (has_capitals || values.find('|') == std::string::npos) return {};
  return split(values, '|');
}

std::string replaced(const std::string& text, char c, std::string_view replacement) {
  std::string out;
  for (const char at : text) {
    if (at == c) {
      out += replacement;
    } else {
      out += at;
    }
  }
  return out;
}

std::vector<FlagRow> rows_of(const std::vector<FlagRow>& rows, std::string_view verb) {
  std::vector<FlagRow> found;
  std::copy_if(rows.begin(), rows.end(), std::back_inserter(found),
               [&](const FlagRow& row) { return row.verb == verb; });
  return found;
}

std::string bash_script(const std::vector<FlagRow>& rows) {
  std::string flags;
  std::string values;
  std::vector<std::string_view> names{"help"};
  for (const VerbRow& verb : verbs()) {
    names.push_back(verb.name);
    std::vector<std::string> words;
    for (const FlagRow& row : rows_of(rows, verb.name)) {
      words.push_back(row.name);
      if (row.takes_value && !row.choices.empty())
        values += fmt::format("    '{} {}') words='{}' ;;\n", verb.name, row.name, fmt::join(row.choices, " "));
    }
    flags += fmt::format("      {}) words='{}' ;;\n", verb.name, fmt::join(words, " "));
  }
  return fmt::format(
      "# bash completion of pq\n"
      "_pq() {{\n"
      "  local cur=${{COMP_WORDS[COMP_CWORD]}} words=\n"
      "  COMPREPLY=()\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ] || {{ [ \"${{COMP_WORDS[1]}}\" = help ] && [ \"$COMP_CWORD\" -eq 2 ]; }}; then\n"
      "    COMPREPLY=($(compgen -W '{} --version' -- \"$cur\"))\n"
      "    return\n"
      "  fi\n"
      "  case \"${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}}\" in\n"
      "{}"
      "  esac\n"
      "  if [ -z \"$words\" ] && [[ $cur == -* ]]; then\n"
      "    case \"${{COMP_WORDS[1]}}\" in\n"
      "{}"
      "    esac\n"
      "  fi\n"
      "  if [ -n \"$words\" ]; then\n"
      "    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
      "  else\n"
      "    COMPREPLY=($(compgen -f -- \"$cur\"))\n"
      "    compopt -o filenames 2>/dev/null\n"
      "  fi\n"
      "}}\n"
      "complete -F _pq pq\n",
      fmt::join(names, " "), values, flags);
}

std::string zsh_argument(const FlagRow& row) {
  std::string help = row.help;
  for (const char c : {'\\', '[', ']', ':'}) help = replaced(help, c, std::string("\\") + c);
  std::string value;
  if (row.takes_value)
    value = row.choices.empty() ? ":value:_files" : fmt::format(":value:({})", fmt::join(row.choices, " "));
  std::string text;
  for (const std::string& name : {row.name, row.short_name}) {
    if (!name.empty())
      text += fmt::format(" \\\n        {}", shell_quoted(fmt::format("*{}[{}]{}", name, help, value)));
  }
  return text;
}

std::string zsh_script(const std::vector<FlagRow>& rows) {
  std::string described;
  std::string flags;
  for (const VerbRow& verb : verbs()) {
    described += fmt::format(
        "    {}\n", shell_quoted(fmt::format("{}:{}", verb.name, replaced(std::string(verb.summary), ':', "\\:"))));
    flags += fmt::format("    {})\n      _arguments", verb.name);
    for (const FlagRow& row : rows_of(rows, verb.name)) flags += zsh_argument(row);
    flags += " \\\n        '*:file:_files'\n      ;;\n";
  }
  return fmt::format(
      "#compdef pq\n"
      "_pq() {{\n"
      "  local -a verbs=(\n"
      "    'help:Show how a verb is used'\n"
      "{}"
      "  )\n"
      "  if (( CURRENT == 2 )) && [[ $PREFIX == -* ]]; then\n"
      "    compadd -- --version\n"
      "    return\n"
      "  fi\n"
      "  if (( CURRENT == 2 )) || [[ $words[2] == help ]]; then\n"
      "    _describe verb verbs\n"
      "    return\n"
      "  fi\n"
      "  local verb=$words[2]\n"
      "  shift words\n"
      "  (( CURRENT-- ))\n"
      "  case $verb in\n"
      "{}"
      "  esac\n"
      "}}\n"
      "_pq \"$@\"\n",
      described, flags);
}

std::string fish_script(const std::vector<FlagRow>& rows) {
  const auto escaped = [](const std::string& text) {
    return fmt::format("'{}'", replaced(replaced(text, '\\', "\\\\"), '\'', "\\'"));
  };
  std::string script = "# fish completion of pq\n";
  const auto add_verb = [&](std::string_view name, std::string_view summary) {
    script +=
        fmt::format("complete -c pq -n __fish_use_subcommand -fa {} -d {}\n", name, escaped(std::string(summary)));
  };
  add_verb("help", "Show how a verb is used");
  for (const VerbRow& verb : verbs()) {
    add_verb(verb.name, verb.summary);
    script += fmt::format("complete -c pq -n '__fish_seen_subcommand_from help' -fa {} -d {}\n", verb.name,
                          escaped(std::string(verb.summary)));
  }
  script += "complete -c pq -n __fish_use_subcommand -l version -d 'Show the version'\n";
  for (const FlagRow& row : rows) {
    script += fmt::format("complete -c pq -n '__fish_seen_subcommand_from {}' -l {}", row.verb, row.name.substr(2));
    if (!row.short_name.empty()) script += fmt::format(" -s {}", row.short_name.substr(1));
    if (row.takes_value)
      script += row.choices.empty() ? std::string(" -r")
                                    : fmt::format(" -xa {}", escaped(fmt::format("{}", fmt::join(row.choices, " "))));
    script += fmt::format(" -d {}\n", escaped(row.help));
  }
  return script;
}

}  // namespace

std::vector<FlagRow> flag_rows(std::string_view verb, const CLI::App& app) {
  std::vector<FlagRow> rows;
  for (const CLI::Option* option : app.get_options([](const CLI::Option* o) { return !o->get_lnames().empty(); })) {
    FlagRow row{
        std::string(verb), "--" + option->get_lnames().front(), "", option->get_items_expected_max() > 0, {}, ""};
    if (!option->get_snames().empty()) row.short_name = "-" + option->get_snames().front();
    row.choices = choices_of(option->get_option_text());
    row.help = option->get_description();
    std::replace_if(
        row.help.begin(), row.help.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
    rows.push_back(std::move(row));
  }
  return rows;
}

std::string flag_table(const std::vector<FlagRow>& rows) {
  std::string table;
  for (const FlagRow& row : rows) {
    table += fmt::format("{}\t{}\t{}\t{}\t{}\t{}\n", row.verb, row.name, row.short_name, row.takes_value ? "value" : "",
                         fmt::join(row.choices, "|"), row.help);
  }
  return table;
}

std::vector<FlagRow> parse_flag_table(std::string_view table) {
  std::vector<FlagRow> rows;
  for (const std::string& line : split(table, '\n')) {
    const std::vector<std::string> cells = split(line, '\t');
    if (cells.size() != 6 || !cells[1].starts_with("--")) continue;
    rows.push_back({cells[0], cells[1], cells[2], cells[3] == "value",
                    cells[4].empty() ? std::vector<std::string>{} : split(cells[4], '|'), cells[5]});
  }
  return rows;
}

std::string completion_script(std::string_view shell, const std::vector<FlagRow>& rows) {
  if (shell == "bash") return bash_script(rows);
  if (shell == "zsh") return zsh_script(rows);
  if (shell == "fish") return fish_script(rows);
  throw InputError("--completion", fmt::format("'{}' is not a shell that is known", shell), "one of: bash, zsh, fish");
}

}  // namespace pq
