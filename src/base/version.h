#pragma once

#include <string_view>

namespace pq {

/// Version of this build, "0.1.0" (CMake's PROJECT_VERSION).
std::string_view version();

}  // namespace pq
