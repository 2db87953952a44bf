# LibTorch for the targets that need it: Debian's libtorch-dev 1.13, or any later one through -DTorch_DIR=... (CUDA included).

find_package(Torch REQUIRED)

add_library(pq_torch INTERFACE)
target_link_libraries(pq_torch INTERFACE ${TORCH_LIBRARIES})
target_include_directories(pq_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})

# Debian's LibTorch calls whatever libblas.so.3 the system chose; with the reference BLAS it runs float32 sixty times slower.
# A program that names the OpenMP build of OpenBLAS itself gets it, whatever the system's choice is.
find_library(PQ_OPENBLAS_OPENMP NAMES libblas.so.3
  PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE}/openblas-openmp /usr/lib/x86_64-linux-gnu/openblas-openmp /usr/lib/aarch64-linux-gnu/openblas-openmp
  NO_DEFAULT_PATH)
if(PQ_OPENBLAS_OPENMP)
  get_filename_component(PQ_OPENBLAS_DIR ${PQ_OPENBLAS_OPENMP} DIRECTORY)
  target_link_options(pq_torch INTERFACE -Wl,--no-as-needed ${PQ_OPENBLAS_OPENMP} -Wl,--as-needed -Wl,-rpath,${PQ_OPENBLAS_DIR})
endif()

# One precompiled header, made once by pq_nn and reused by every other LibTorch target.
function(pq_use_torch target)
  target_link_libraries(${target} PUBLIC pq_torch)
  if(${target} STREQUAL "pq_nn")
    target_precompile_headers(${target} PRIVATE <ATen/ATen.h> <string> <vector> <functional> <memory> <fmt/format.h>)
  else()
    target_precompile_headers(${target} REUSE_FROM pq_nn)
  endif()
endfunction()
