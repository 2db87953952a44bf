#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

// The pieces that figures are drawn of. Classes are those of figure.css.

namespace pq::report {

/// Pixels that a text takes, about, at `size` pixels of height; the fonts of whoever looks are not known.
double text_width(std::string_view text, double size = 12);
/// The text, cut with "…" to at most that many pixels.
std::string fitted(std::string_view text, double pixels, double size = 12);

/// Where a text's x is: its beginning, middle or end.
enum class Anchor { start, middle, end };
/// <text>, its content escaped. `classes`: "t" of ticks, "n" of names and titles of axes, and others of figure.css.
std::string text_at(double x, double y, std::string_view classes, Anchor anchor, std::string_view text,
                    std::string_view more_attributes = {});
std::string line_from(double x1, double y1, double x2, double y2, std::string_view classes);
std::string rectangle(double x, double y, double width, double height, std::string_view classes);
/// `element` ("<path …/>") with what it says when it is pointed at: the lines that are not empty, escaped.
std::string with_tooltip(std::string element, const std::vector<std::string>& lines);

/// The mark of series 1 to 8, each of another shape, `size` pixels across.
std::string marker(int series, double x, double y, double size);

/// A box that nothing else should cover.
struct Box {
  double left, top, right, bottom;
  bool meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

/// Finds room for names beside points.
class LabelRoom {
 public:
  explicit LabelRoom(Box inside) : inside_(inside) {}
  void occupy(const Box& box) { taken_.push_back(box); }
  bool is_free(const Box& box) const;
  /// The text beside (x, y), where it covers nothing; empty where there is no room.
  std::string place(double x, double y, std::string_view text);

 private:
  Box inside_;
  std::vector<Box> taken_;
};

struct LegendEntry {
  int series;
  std::string name;
  bool has_line;
  bool has_marks;
};
/// Entries side by side, in as many rows as it takes from `left` to `right`; adds to `top` what they take.
std::string legend(const std::vector<LegendEntry>& entries, double left, double right, double& top);

/// Names below an axis, at these x: side by side where they have room, else slanted.
struct NamesBelow {
  std::string elements;
  double height = 0;
};
NamesBelow names_below(const std::vector<std::string>& names, const std::vector<double>& at, double top, double slot);

}  // namespace pq::report
