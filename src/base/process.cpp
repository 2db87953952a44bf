#include "base/process.h"

#include <unistd.h>

#include <cstdlib>
#include <system_error>

#include "base/error.h"

namespace pq {
namespace {

bool has_avx512() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
         __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
         __builtin_cpu_supports("avx512cd") != 0;
#else
  return false;
#endif
}

}  // namespace

std::filesystem::path own_executable() {
  std::error_code code;
  return std::filesystem::read_symlink("/proc/self/exe", code);
}

void replace_process(const std::filesystem::path& program, char** argv) {
  ::execv(program.c_str(), argv);
  throw_errno(program.string(), "cannot be started", "build it again");
}

bool prepare_tensor_environment() {
  // About the patience of our own pool (base/parallel_for) at 40 to 140 cycles a turn.
  constexpr const char* turns = "2000";
  const bool told = std::getenv("OMP_WAIT_POLICY") != nullptr || std::getenv("GOMP_SPINCOUNT") != nullptr;
  bool changed = false;
  if (!told) changed = ::setenv("GOMP_SPINCOUNT", turns, 0) == 0;
  if (std::getenv("OPENBLAS_CORETYPE") == nullptr && has_avx512()) {
    changed = ::setenv("OPENBLAS_CORETYPE", "SkylakeX", 0) == 0 || changed;
  }
  return changed;
}

}  // namespace pq
