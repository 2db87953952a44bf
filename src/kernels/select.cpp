#include "kernels/select.h"

#include <fmt/format.h>

#include <cstdlib>
#include <iterator>
#include <string>

#include "base/error.h"
#include "kernels/cpu_features.h"

namespace pq::kernels {

#define PQ_ISA(space, name, features) \
  namespace space {                   \
  extern const KernelTable table;     \
  }
#include "kernels/isa_rows.inc"
#undef PQ_ISA

namespace {

constexpr const KernelTable* tables[] = {
#define PQ_ISA(space, name, features) &space::table,
#include "kernels/isa_rows.inc"
#undef PQ_ISA
};

struct Row {
  std::string_view name;
  std::string_view features;
};

// Names from the rows, not from the tables: reading a table's name must not be what tells whether it can run.
constexpr Row rows[] = {
#define PQ_ISA(space, name, features) {name, features},
#include "kernels/isa_rows.inc"
#undef PQ_ISA
};

std::string runnable_names(FeatureTest has) {
  std::string names;
  for (const Row& row : rows) {
    if (missing_feature(row.features, has).empty()) names += fmt::format("{}{}", names.empty() ? "" : ", ", row.name);
  }
  return names;
}

}  // namespace

std::span<const KernelTable* const> kernel_tables() { return tables; }

std::string_view features_of(const KernelTable& table) {
  for (std::size_t i = 0; i < std::size(tables); ++i) {
    if (tables[i] == &table) return rows[i].features;
  }
  throw InputError("kernels", "this table is none of the build's");
}

bool supported(const KernelTable& table) { return missing_feature(features_of(table)).empty(); }

const KernelTable& select_kernels(std::string_view name, std::string_view where, FeatureTest has) {
  if (name.empty()) {
    std::size_t best = 0;
    for (std::size_t i = 0; i < std::size(rows); ++i) {
      if (missing_feature(rows[i].features, has).empty()) best = i;
    }
    return *tables[best];
  }
  for (std::size_t i = 0; i < std::size(rows); ++i) {
    if (rows[i].name != name) continue;
    const std::string missing = missing_feature(rows[i].features, has);
    if (!missing.empty()) {
      throw InputError(where, fmt::format("this processor has no {}, which {} needs", missing, name),
                       fmt::format("it can run: {}", runnable_names(has)));
    }
    return *tables[i];
  }
  throw InputError(where, fmt::format("this program has no kernels named '{}'", name),
                   fmt::format("this processor can run: {}", runnable_names(has)));
}

const KernelTable& select_kernels() {
  const char* forced = std::getenv("PQ_FORCE_ISA");
  return select_kernels(forced == nullptr ? std::string_view() : std::string_view(forced), "PQ_FORCE_ISA");
}

}  // namespace pq::kernels
