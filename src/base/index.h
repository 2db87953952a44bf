#pragma once

#include <cstddef>
#include <cstdint>

namespace pq {

/// A size or position that is not negative, as the standard library counts.
constexpr std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

}  // namespace pq
