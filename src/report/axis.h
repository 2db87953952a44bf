#pragma once

#include <limits>
#include <string>
#include <vector>

#include "report/figure.h"

namespace pq::report {

/// The least and the largest of the values that an axis can show.
struct ValueRange {
  double least = std::numeric_limits<double>::infinity();
  double largest = -std::numeric_limits<double>::infinity();

  bool empty() const { return least > largest; }
  void take(double value) {
    least = value < least ? value : least;
    largest = value > largest ? value : largest;
  }
};

/// Whether a value has a place on such an axis: finite, and above zero on a logarithmic one.
bool has_place(double value, Scale scale);

struct Tick {
  double value = 0;
  std::string label;  ///< empty: a line alone
};

/// What an axis spans, and its ticks: round numbers, at most about so many as were asked for.
struct AxisSpan {
  Scale scale = Scale::linear;
  double from = 0;
  double to = 1;
  std::vector<Tick> ticks;

  /// 0 at the beginning, 1 at the end. For values that have a place; beyond the ends it goes on.
  double share(double value) const;
  bool contains(double value) const;
};
/// Whether a linear axis begins at zero: never for its own sake, where the values fill three fifths of it all the same,
/// or always.
enum class Zero { as_it_comes, where_near, always };
AxisSpan axis_span(const Axis& axis, const ValueRange& values, int most, Zero zero = Zero::as_it_comes);

/// "perplexity (bits, log scale)"
std::string axis_title(const Axis& axis);

/// A span on a stretch of the picture.
struct PlacedAxis {
  AxisSpan span;
  double begin = 0;  ///< pixels at span.from
  double end = 1;    ///< and at span.to

  double at(double value) const { return begin + span.share(value) * (end - begin); }
};

}  // namespace pq::report
