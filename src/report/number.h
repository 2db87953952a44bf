#pragma once

#include <string>

namespace pq::report {

/// A number for people: `digits` significant ones, no zeros at the end of a fraction, powers of ten outside of 1e-4 to
/// 1e7: "12.3", "0.00123", "1.5e9". "-" for what is not a number, "inf" and "-inf".
std::string short_number(double value, int digits = 4);
/// A coordinate of a picture: one digit behind the point, or none.
std::string coordinate(double value);
/// The label of a tick: short_number, but powers of ten from 1e4 on as such: "10⁵".
std::string tick_label(double value);

}  // namespace pq::report
