#include "report/figure.h"

#include <fmt/format.h>

#include <algorithm>

#include "report/assets.h"
#include "report/escape.h"
#include "report/svg.h"

namespace pq::report {
namespace {

std::string opening(const Figure& figure, int height, std::string_view more_attributes) {
  const std::string& id = figure.caption.id;
  return fmt::format(
      "<svg {}class=\"svg\" role=\"img\" aria-labelledby=\"{}-t {}-d\" viewBox=\"0 0 {} {}\" width=\"{}\" "
      "height=\"{}\"><title id=\"{}-t\">{}</title><desc id=\"{}-d\">{}</desc>",
      more_attributes, id, id, figure.width, height, figure.width, height, id, escape_markup(figure.caption.title), id,
      escape_markup(figure.caption.description));
}

/// The title in lines that fit into the picture.
std::vector<std::string> title_lines(const std::string& title, double pixels) {
  constexpr double size = 17;  // 15 pixels, bold
  std::vector<std::string> lines(1);
  std::string_view rest = title;
  while (!rest.empty()) {
    const std::size_t space = std::min(rest.find(' '), rest.size());
    const std::string word(rest.substr(0, space));
    rest.remove_prefix(std::min(space + 1, rest.size()));
    const std::string longer = lines.back().empty() ? word : lines.back() + " " + word;
    if (lines.back().empty() || text_width(longer, size) <= pixels) {
      lines.back() = longer;
    } else {
      lines.push_back(word);
    }
  }
  return lines;
}

}  // namespace

std::string inline_svg(const Figure& figure) {
  return opening(figure, figure.height, "") + figure.elements + "</svg>\n";
}

std::string standalone_svg(const Figure& figure) {
  constexpr int line = 20;
  const std::vector<std::string> title = title_lines(figure.caption.title, figure.width - 20);
  const int head = 10 + line * static_cast<int>(title.size());
  std::string out = opening(figure, head + figure.height, "xmlns=\"http://www.w3.org/2000/svg\" ");
  out += fmt::format("<style>{}</style>", figure_style().text);
  out += rectangle(0, 0, figure.width, head + figure.height, "paper");
  for (std::size_t i = 0; i < title.size(); ++i)
    out += text_at(10, 20 + line * static_cast<double>(i), "h", Anchor::start, title[i]);
  return out + fmt::format("<g transform=\"translate(0 {})\">", head) + figure.elements + "</g></svg>\n";
}

}  // namespace pq::report
