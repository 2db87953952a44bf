#pragma once

#include <string>
#include <variant>
#include <vector>

#include "report/figure.h"
#include "report/table.h"

namespace pq::report {

/// A paragraph.
struct Text {
  std::string text;
};
/// A line to type or a file to copy, with a button that does it.
struct Code {
  std::string text;
};
/// A table to copy: as HTML, and behind buttons as Markdown, CSV and LaTeX.
struct CopyableTable {
  Table table;
};
/// Figure: the picture, its title and description, its numbers in a table that opens.
using Item = std::variant<Text, Code, Table, CopyableTable, Figure>;

struct Choice {
  std::string name;  ///< "block 11"
  std::vector<Item> items;
};
/// Parts of which one is seen at a time: chosen from a list, with buttons or the arrow keys. Without script, all are.
struct Picker {
  std::string label;  ///< "Block"
  std::vector<Choice> choices;
  std::size_t first = 0;  ///< the one that is seen at the beginning
};

struct Section {
  std::string id;  ///< [a-z][a-z0-9-]*, unique on the page
  std::string heading;
  std::vector<Item> items;
  std::vector<Picker> pickers = {};  ///< below the items
};

/// A report of one file: no network, nothing that it loads, readable without script.
struct Page {
  std::string title;
  std::string finding;  ///< the page in one sentence
  std::vector<Section> sections;
};

/// HTML that is XML too. Throws std::logic_error for an id that is taken or is none.
std::string to_html(const Page& page);
/// Every figure of the page, in its order.
std::vector<const Figure*> figures_of(const Page& page);
std::vector<const Figure*> figures_of(Page&&) = delete;

}  // namespace pq::report
