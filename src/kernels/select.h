#pragma once

#include <span>
#include <string_view>

#include "kernels/cpu_features.h"
#include "kernels/kernels.h"

// Which kernels run: decided once, when a model is loaded. Compiler flags and the features asked for here come from the
// same rows, cmake/Isa.cmake.

namespace pq::kernels {

/// All tables of this build, the scalar one (the definition) first, the best last.
std::span<const KernelTable* const> kernel_tables();

/// Processor features that the table needs, separated by spaces; empty for the scalar one. Throws InputError for a
/// table that is not one of kernel_tables().
std::string_view features_of(const KernelTable& table);

/// Whether this processor and operating system can run it.
bool supported(const KernelTable& table);

/// The best supported table, or the one that the environment variable PQ_FORCE_ISA names. Throws InputError for a name
/// that is no table's and for a table that this processor cannot run.
const KernelTable& select_kernels();

/// The same for a given name (a table's name; empty: the best), on a processor that has the features for which `has` is
/// true. `where` begins the error messages.
const KernelTable& select_kernels(std::string_view name, std::string_view where, FeatureTest has = has_feature);

}  // namespace pq::kernels
