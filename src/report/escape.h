#pragma once

#include <string>
#include <string_view>

// Text that nobody vouches for (tokens, file names, model names) on its way into a page, a table or a figure.

namespace pq::report {

/// `text` with whatever cannot be seen, or moves what stands beside it, as an escape: \n \t \r, \x1b for other control
/// characters and for bytes that are not UTF-8, \u{202e} for format characters (bidirectional overrides, joiners, byte
/// order marks), separators and characters that are not assigned. Spaces stay.
std::string visible_text(std::string_view text);
/// The same for one token: spaces at its ends are seen too (␣), and an empty one is "(empty)".
std::string visible_token(std::string_view text);

/// The visible text for HTML and XML, in elements and in quoted attributes.
std::string escape_markup(std::string_view text);
/// The visible text inside of a Markdown table or paragraph (GitHub's): no character of it is markup.
std::string escape_markdown(std::string_view text);
/// The visible text for LaTeX, in text mode.
std::string escape_latex(std::string_view text);
/// A field of RFC 4180, quoted where it has to be. A text that a spreadsheet would take for a formula gets an
/// apostrophe before it.
std::string escape_csv(std::string_view text);
/// A double-quoted YAML scalar, quotes included, all in ASCII but for printable characters.
std::string quote_yaml(std::string_view text);

}  // namespace pq::report
