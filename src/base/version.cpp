#include "base/version.h"

namespace pq {

std::string_view version() { return PQ_VERSION; }

}  // namespace pq
