#include "report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/display_width.h"
#include "report/escape.h"
#include "report/number.h"

namespace pq::report {
namespace {

/// Of the characters of a common sans serif font, in parts of its height; the rest is as wide as "n".
double character_width(char c) {
  if (std::string_view("iIjl.,:;'|!").find(c) != std::string_view::npos) return 0.32;
  if (std::string_view("ftr()[]{}-/\\ \"").find(c) != std::string_view::npos) return 0.4;
  if (std::string_view("mwMW@%").find(c) != std::string_view::npos) return 0.9;
  return c >= 'A' && c <= 'Z' ? 0.7 : 0.6;
}

std::string point(double x, double y) { return coordinate(x) + " " + coordinate(y); }

}  // namespace

double text_width(std::string_view text, double size) {
  const std::string visible = visible_text(text);
  double width = 0;
  std::size_t others = 0;
  for (const char c : visible) {
    static_cast<unsigned char>(c) < 0x80 ? void(width += character_width(c)) : void(++others);
  }
  if (others > 0) {
    std::string wide;
    for (const char c : visible) {
      if (static_cast<unsigned char>(c) >= 0x80) wide += c;
    }
    width += 0.62 * static_cast<double>(display_width(wide));
  }
  return width * size;
}

std::string fitted(std::string_view text, double pixels, double size) {
  const std::string visible = visible_text(text);
  if (text_width(visible, size) <= pixels) return visible;
  std::size_t columns = display_width(visible);
  while (columns > 1) {
    std::string cut(cut_to_width(visible, --columns));
    cut += "…";
    if (text_width(cut, size) <= pixels) return cut;
  }
  return "…";
}

std::string text_at(double x, double y, std::string_view classes, Anchor anchor, std::string_view text,
                    std::string_view more_attributes) {
  std::string all(classes);
  if (anchor == Anchor::middle) all += all.empty() ? "m" : " m";
  if (anchor == Anchor::end) all += all.empty() ? "e" : " e";
  return fmt::format("<text x=\"{}\" y=\"{}\"{}{}{}>{}</text>", coordinate(x), coordinate(y),
                     all.empty() ? "" : fmt::format(" class=\"{}\"", all), more_attributes.empty() ? "" : " ",
                     more_attributes, escape_markup(text));
}

std::string line_from(double x1, double y1, double x2, double y2, std::string_view classes) {
  return fmt::format("<path class=\"{}\" d=\"M{}L{}\"/>", classes, point(x1, y1), point(x2, y2));
}

std::string rectangle(double x, double y, double width, double height, std::string_view classes) {
  return fmt::format("<rect class=\"{}\" x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"/>", classes, coordinate(x),
                     coordinate(y), coordinate(width), coordinate(height));
}

std::string with_tooltip(std::string element, const std::vector<std::string>& lines) {
  const std::string name = element.substr(1, element.find(' ') - 1);
  std::string text;
  for (const std::string& line : lines) {
    if (!line.empty()) text += (text.empty() ? "" : "\n") + escape_markup(line);
  }
  return element.replace(element.size() - 2, 2, fmt::format("><title>{}</title></{}>", text, name));
}

std::string marker(int series, double x, double y, double size) {
  const double r = size / 2;
  const auto path = [&](const std::vector<std::array<double, 2>>& corners) {
    std::string d;
    for (const auto& corner : corners) d += (d.empty() ? "M" : "L") + point(x + corner[0] * r, y + corner[1] * r);
    return fmt::format("<path class=\"p{}\" d=\"{}z\"/>", series, d);
  };
  switch (series) {
    case 2:
      return path({{-0.9, -0.9}, {0.9, -0.9}, {0.9, 0.9}, {-0.9, 0.9}});
    case 3:
      return path({{0, -1.2}, {1.1, 0.8}, {-1.1, 0.8}});
    case 4:
      return path({{0, -1.3}, {1.3, 0}, {0, 1.3}, {-1.3, 0}});
    case 5:
      return path({{0, 1.2}, {1.1, -0.8}, {-1.1, -0.8}});
    case 6:
      return path({{-0.4, -1.2},
                   {0.4, -1.2},
                   {0.4, -0.4},
                   {1.2, -0.4},
                   {1.2, 0.4},
                   {0.4, 0.4},
                   {0.4, 1.2},
                   {-0.4, 1.2},
                   {-0.4, 0.4},
                   {-1.2, 0.4},
                   {-1.2, -0.4},
                   {-0.4, -0.4}});
    case 7:
      return path({{-1.2, 0}, {-0.6, -1}, {0.6, -1}, {1.2, 0}, {0.6, 1}, {-0.6, 1}});
    case 8:
      return path({{-1.2, -0.5}, {1.2, -0.5}, {1.2, 0.5}, {-1.2, 0.5}});
    default:
      return fmt::format("<circle class=\"p{}\" cx=\"{}\" cy=\"{}\" r=\"{}\"/>", series, coordinate(x), coordinate(y),
                         coordinate(r));
  }
}

bool LabelRoom::is_free(const Box& box) const {
  return std::none_of(taken_.begin(), taken_.end(), [&](const Box& other) { return other.meets(box); });
}

std::string LabelRoom::place(double x, double y, std::string_view text) {
  constexpr double gap = 7;
  constexpr double height = 13;
  const double width = text_width(text);
  const struct {
    double left, baseline;
  } places[] = {{x + gap, y + 4},
                {x - gap - width, y + 4},
                {x - width / 2, y - gap},
                {x - width / 2, y + gap + 9},
                {x + gap, y - gap},
                {x - gap - width, y - gap},
                {x + gap, y + gap + 9},
                {x - gap - width, y + gap + 9},
                {x + gap + 4, y - 2 * gap - 4},
                {x + gap + 4, y + 2 * gap + 12}};
  for (const auto& place : places) {
    const Box box{place.left, place.baseline - height + 2, place.left + width, place.baseline + 3};
    if (box.left < inside_.left || box.right > inside_.right || box.top < inside_.top || box.bottom > inside_.bottom)
      continue;
    if (!is_free(box)) continue;
    occupy(box);
    return text_at(place.left, place.baseline, "b", Anchor::start, text);
  }
  return {};
}

std::string legend(const std::vector<LegendEntry>& entries, double left, double right, double& top) {
  constexpr double row = 20;
  constexpr double swatch = 26;
  std::string out;
  double x = left;
  double y = top + 12;
  for (const LegendEntry& entry : entries) {
    const std::string name = fitted(entry.name, right - left - swatch - 8);
    const double width = swatch + 6 + text_width(name) + 20;
    if (x > left && x + width - 20 > right) {
      x = left;
      y += row;
    }
    if (entry.has_line) out += line_from(x, y - 4, x + swatch, y - 4, fmt::format("l{}", entry.series));
    if (entry.has_marks) out += marker(entry.series, x + swatch / 2, y - 4, 8);
    out += text_at(x + swatch + 6, y, "", Anchor::start, name);
    x += width;
  }
  if (!entries.empty()) top = y + 12;
  return out;
}

NamesBelow names_below(const std::vector<std::string>& names, const std::vector<double>& at, double top, double slot) {
  constexpr double most_pixels = 170;
  double widest = 0;
  for (const std::string& name : names) widest = std::max(widest, text_width(name));
  NamesBelow below;
  if (widest + 6 <= slot) {
    for (std::size_t i = 0; i < names.size(); ++i)
      below.elements += text_at(at[i], top + 13, "t", Anchor::middle, names[i]);
    below.height = 18;
    return below;
  }
  const double slant = 35;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const std::string turned =
        fmt::format("transform=\"rotate(-{} {} {})\"", slant, coordinate(at[i] + 4), coordinate(top + 11));
    below.elements += text_at(at[i] + 4, top + 11, "t", Anchor::end, fitted(names[i], most_pixels), turned);
  }
  below.height = 16 + std::min(widest, most_pixels) * std::sin(slant * 3.14159265 / 180);
  return below;
}

}  // namespace pq::report
