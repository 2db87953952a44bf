#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <fmt/format.h>

#include "base/communicator.h"
#include "base/error.h"
#include "base/log.h"
#include "base/parallel_for.h"
#include "lab/verbs.h"

namespace pq::lab {

void apply_common_options(const CommonOptions& common) {
  Communicator::world();  // before threads are counted and anything is written
  at::set_num_threads(thread_count());
  if (common.device != "cpu" && !at::hasCUDA()) {
    throw UnsupportedError(fmt::format("--device {}", common.device), "LibTorch finds no CUDA device",
                           "use --device cpu, or build with a CUDA LibTorch (cmake -DTorch_DIR=...)");
  }
  log_verbose("LibTorch: {} threads, device {}", thread_count(), common.device);
}

}  // namespace pq::lab
