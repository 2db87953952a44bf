#pragma once

#include <filesystem>

namespace pq {

/// The file that this process runs, symbolic links resolved; empty when the system does not tell.
std::filesystem::path own_executable();

/// Replaces this process with `program` (execv: signals, job control and mpirun work), arguments unchanged.
/// Throws SystemError when that fails.
[[noreturn]] void replace_process(const std::filesystem::path& program, char** argv);

/// The tensor library reads two things from the environment before main(), so only a program started after this call
/// profits. Sets what the user has not set, and returns whether anything was:
/// - OPENBLAS_CORETYPE=SkylakeX, where the processor has the AVX-512 that those kernels need: Debian's OpenBLAS 0.3.21
///   falls back to AVX2 on processors that are younger than it (half the speed).
/// - GOMP_SPINCOUNT: threads that wait for each other look for work some microseconds and then sleep. libgomp's own
///   choice spins for milliseconds, and where processors are shared with other programs it is the others that the
///   spinning thread waits for.
bool prepare_tensor_environment();

}  // namespace pq
