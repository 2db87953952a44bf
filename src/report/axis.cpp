#include "report/axis.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "report/number.h"

namespace pq::report {
namespace {

/// The least of 1, 2 and 5 times a power of ten that is not below.
double round_step(double step) {
  const double power = std::pow(10.0, std::floor(std::log10(step)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= step * (1 - 1e-9)) return factor * power;
  }
  return 10 * power;
}

/// Labels tell neighbours apart: as many digits as the step asks for.
std::string step_label(double value, double step) {
  if (std::fabs(value) < step * 1e-6) return "0";
  const double magnitude = std::floor(std::log10(std::fabs(value)) + 1e-9) - std::floor(std::log10(step) + 1e-9);
  return std::fabs(value) >= 1e5 && magnitude < 1
             ? tick_label(value)
             : short_number(value, std::clamp(static_cast<int>(magnitude) + 2, 2, 9));
}

void add_linear_ticks(AxisSpan& span, double step) {
  const double first = std::ceil(span.from / step - 1e-6);
  const double last = std::floor(span.to / step + 1e-6);
  for (double i = first; i <= last; ++i) span.ticks.push_back({i * step, step_label(i * step, step)});
}

void fill_linear(AxisSpan& span, const Axis& axis, int most, Zero zero) {
  const bool is_near = zero == Zero::where_near && span.from < 0.4 * span.to;
  if (!axis.from && span.from > 0 && (is_near || zero == Zero::always)) span.from = 0;
  if (!axis.to && span.to < 0 && zero == Zero::always) span.to = 0;
  double step = round_step((span.to - span.from) / std::max(1, most));
  if (axis.whole) step = std::max(1.0, step);
  // Blocks and positions end where they end; measures end at a tick.
  if (!axis.from && !axis.whole) span.from = std::floor(span.from / step + 1e-6) * step;
  if (!axis.to && !axis.whole) span.to = std::ceil(span.to / step - 1e-6) * step;
  add_linear_ticks(span, step);
}

void fill_logarithmic(AxisSpan& span, const Axis& axis, int most) {
  const double decades = std::log10(span.to / span.from);
  if (decades < 1) {  // round numbers, as on a linear axis
    const double step = round_step((span.to - span.from) / std::max(1, most));
    const double below = std::floor(span.from / step + 1e-6) * step;
    if (!axis.from && below > 0) span.from = below;
    if (!axis.to) span.to = std::ceil(span.to / step - 1e-6) * step;
    add_linear_ticks(span, step);
    return;
  }
  const std::vector<double> factors = 3 * decades <= most ? std::vector{1.0, 2.0, 5.0} : std::vector{1.0};
  const auto exponent_of = [](double value) { return static_cast<int>(std::floor(std::log10(value) + 1e-9)); };
  // The ends go on to the nearest 1, 2 or 5.
  const auto rounded = [&](double value, bool up) {
    const double power = std::pow(10.0, exponent_of(value));
    double best = up ? 10 * power : power;
    for (const double factor : {1.0, 2.0, 5.0}) {
      if (up && factor * power >= value * (1 - 1e-9)) return factor * power;
      if (!up && factor * power <= value * (1 + 1e-9)) best = factor * power;
    }
    return best;
  };
  if (!axis.from) span.from = rounded(span.from, false);
  if (!axis.to) span.to = rounded(span.to, true);
  const int stride = std::max(1, static_cast<int>(std::ceil(decades / std::max(1, most))));
  for (int e = exponent_of(span.from); e <= exponent_of(span.to) + 1; ++e) {
    for (const double factor : factors) {
      const double value = factor * std::pow(10.0, e);
      if (!span.contains(value)) continue;
      if (((e % stride) + stride) % stride == 0) span.ticks.push_back({value, tick_label(value)});
    }
  }
}

}  // namespace

bool has_place(double value, Scale scale) { return std::isfinite(value) && (scale == Scale::linear || value > 0); }

double AxisSpan::share(double value) const {
  if (scale == Scale::linear) return (value - from) / (to - from);
  return std::log(value / from) / std::log(to / from);
}

bool AxisSpan::contains(double value) const {
  if (!has_place(value, scale)) return false;
  const double where = share(value);
  return where > -1e-6 && where < 1 + 1e-6;
}

AxisSpan axis_span(const Axis& axis, const ValueRange& values, int most, Zero zero) {
  AxisSpan span;
  span.scale = axis.scale;
  const bool log = axis.scale == Scale::log;
  span.from = axis.from.value_or(values.empty() ? (log ? 1 : 0) : values.least);
  span.to = axis.to.value_or(values.empty() ? std::max(log ? 10 : 1, static_cast<int>(span.from) + 1) : values.largest);
  if (!has_place(span.from, axis.scale)) span.from = log ? 1 : 0;
  if (!has_place(span.to, axis.scale) || span.to <= span.from) {  // one value alone stands in the middle
    const double value = span.from;
    const double room = value == 0 ? 1 : std::fabs(value) * 0.5;
    if (!axis.from) span.from = log ? value / 2 : value - (axis.whole ? 1 : room);
    span.to = log ? value * 2 : value + (axis.whole ? 1 : room);
  }
  log ? fill_logarithmic(span, axis, most) : fill_linear(span, axis, most, zero);
  return span;
}

std::string axis_title(const Axis& axis) {
  std::string remark = axis.unit;
  if (axis.scale == Scale::log) remark += remark.empty() ? "log scale" : ", log scale";
  return remark.empty() ? axis.label : fmt::format("{} ({})", axis.label, remark);
}

}  // namespace pq::report
