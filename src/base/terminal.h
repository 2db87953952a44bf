#pragma once

#include <cstddef>
#include <string_view>

// stderr, where people read what goes on.

namespace pq {

bool stderr_is_terminal();

/// Columns of the terminal at stderr; 80 where there is none.
std::size_t terminal_width();

/// Whether stderr is a terminal that wants colour (NO_COLOR, TERM=dumb respected).
bool stderr_has_color();

/// Writes to stderr as it is. What cannot be written (a full disk, a closed pipe) is lost, never an exception.
void put_on_stderr(std::string_view text);

/// Draws a line of a terminal again, cut to its width. It stays open, so that the next call draws over it, unless it is
/// the `last` time.
void redraw_line(std::string_view line, bool last);

/// Wipes a line that redraw_line() left open, so that other text does not run into it.
void clear_redrawn_line();

}  // namespace pq
