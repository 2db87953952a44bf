#include "jinja/filters.h"

namespace pq::jinja {

Filter find_filter(std::string_view name) {
  for (const std::span<const FilterRow> rows : {value_filters(), sequence_filters()}) {
    for (const FilterRow& row : rows) {
      if (row.name == name) return row.filter;
    }
  }
  return nullptr;
}

}  // namespace pq::jinja
