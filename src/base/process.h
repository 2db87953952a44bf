#pragma once

#include <filesystem>

namespace pq {

/// The file that this process runs, symbolic links resolved; empty when the system does not tell.
std::filesystem::path own_executable();

/// Replaces this process with `program` (execv: signals, job control and mpirun work), arguments unchanged.
/// Throws SystemError when that fails.
[[noreturn]] void replace_process(const std::filesystem::path& program, char** argv);

/// OpenBLAS chooses its kernels when it is loaded, and Debian's 0.3.21 falls back to AVX2 ones on AVX-512 processors
/// that are younger than it (half the speed). Sets OPENBLAS_CORETYPE=SkylakeX when the processor has the AVX-512 that
/// those kernels need and the user has not set the variable. Returns whether it was set: only a program started after
/// that profits.
bool choose_blas_kernels();

}  // namespace pq
