#include "runtime/model_source.h"

#include <fmt/format.h>

#include "base/error.h"

namespace pq::runtime {

void check_shape(const ModelSpec& spec, std::string_view where) {
  require_supported(spec, where);
  constexpr std::int64_t widest_head = 1024;
  if (spec.head_dim > widest_head || spec.head_dim % 2 != 0) {
    throw UnsupportedError(where, fmt::format("heads of {} dimensions", spec.head_dim),
                           fmt::format("even sizes up to {} are supported", widest_head));
  }
}

ModelSource open_model(const std::string& model, std::int64_t context) {
  ModelSource source = io::open_model_source(model, context);
  check_shape(source.spec, source.path.string());
  return source;
}

}  // namespace pq::runtime
