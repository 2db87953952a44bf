#pragma once

#include <memory>

#include "kernels/kernels.h"
#include "runtime/model_parts.h"
#include "runtime/model_source.h"

namespace pq::runtime {

/// Packs a model for a kernel table, block by block. Throws FormatError or UnsupportedError naming the tensor.
std::unique_ptr<ModelParts> build_model(ModelSource source, const ModelOptions& options,
                                        const kernels::KernelTable& table);

}  // namespace pq::runtime
