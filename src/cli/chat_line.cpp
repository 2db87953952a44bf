#include "cli/chat_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>

namespace pq::cli {
namespace {

struct CommandRow {
  std::string_view word;
  std::string_view argument;  ///< empty: it takes none
  ChatLine::Kind kind;
  std::string_view help;
};

constexpr std::array<CommandRow, 4> commands{{
    {"/help", "", ChatLine::Kind::help, "shows this"},
    {"/reset", "", ChatLine::Kind::reset, "forgets the conversation"},
    {"/save", "FILE", ChatLine::Kind::save, "writes the conversation as JSON, for --resume"},
    {"/quit", "", ChatLine::Kind::quit, "ends the chat, as Ctrl-D does"},
}};

std::string_view without_blanks(std::string_view text) {
  constexpr std::string_view blanks = " \t";
  const std::size_t begin = text.find_first_not_of(blanks);
  return begin == std::string_view::npos ? std::string_view{}
                                         : text.substr(begin, text.find_last_not_of(blanks) + 1 - begin);
}

/// nullptr when the line is none.
const CommandRow* find_command(std::string_view line, std::string_view& argument) {
  if (!line.starts_with('/') || line.find('\n') != std::string_view::npos) return nullptr;
  const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
  const auto row = std::find_if(commands.begin(), commands.end(),
                                [&](const CommandRow& r) { return r.word == line.substr(0, end); });
  argument = without_blanks(line.substr(end));
  return row == commands.end() || (row->argument.empty() && !argument.empty()) ? nullptr : &*row;
}

}  // namespace

ChatLine read_chat_line(std::string_view line) {
  if (line.find_first_not_of(" \t\n") == std::string_view::npos) return {ChatLine::Kind::blank, {}};
  std::string_view argument;
  if (const CommandRow* row = find_command(line, argument)) return {row->kind, std::string(argument)};
  const bool is_escaped = line.starts_with("//") && find_command(line.substr(1), argument) != nullptr;
  return {ChatLine::Kind::message, std::string(is_escaped ? line.substr(1) : line)};
}

std::string chat_commands() {
  std::string text;
  for (const CommandRow& row : commands) {
    const std::string usage = fmt::format("{}{}{}", row.word, row.argument.empty() ? "" : " ", row.argument);
    text += fmt::format("  {:<12} {}\n", usage, row.help);
  }
  return text;
}

bool resembles_command(std::string_view line) {
  if (line.size() < 2 || line.size() > 12 || line[0] != '/') return false;
  line.remove_prefix(1);
  return std::all_of(line.begin(), line.end(), [](char c) { return std::isalpha(static_cast<unsigned char>(c)) != 0; });
}

}  // namespace pq::cli
