#pragma once

#include <string>
#include <string_view>

namespace pq::cli {

/// What a line of a chat asks for.
struct ChatLine {
  enum class Kind { message, blank, help, reset, save, quit };
  Kind kind = Kind::message;
  std::string text;  ///< of a message; the FILE of save
};

/// A line is a command when it is one of those in chat_commands() and nothing else: a message may begin with a path.
/// A blank in front, or a second slash (which is taken off), makes a message of what would be a command.
ChatLine read_chat_line(std::string_view line);

/// One line for each command, as /help and `pq chat --help` show them.
std::string chat_commands();

/// Whether `line` looks like a command that was mistyped: one short word behind a slash.
bool resembles_command(std::string_view line);

}  // namespace pq::cli
