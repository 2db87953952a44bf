#pragma once

#include <string>
#include <string_view>

namespace pq::kernels {

/// Whether this build knows how to ask for a processor feature of this name ("avx2", "asimddp", ...).
bool known_feature(std::string_view name);

/// Whether the processor has the feature AND the operating system saves the registers that it uses. False for a name
/// that this build does not know, and for those of another architecture.
bool has_feature(std::string_view name);

using FeatureTest = bool (*)(std::string_view name);

/// The first of space-separated `names` that is missing here; empty when all are there.
std::string missing_feature(std::string_view names, FeatureTest has = has_feature);

}  // namespace pq::kernels
