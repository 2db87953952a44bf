# LibTorch for the targets that need it: Debian's libtorch-dev 1.13, or any later one through -DTorch_DIR=... (CUDA included).

# Torch_DIR is LIBTORCH/share/cmake/Torch; without this its own find_library and find_package calls prefer an installed libtorch-dev.
if(Torch_DIR)
  get_filename_component(PQ_LIBTORCH ${Torch_DIR}/../../.. ABSOLUTE)
  list(PREPEND CMAKE_PREFIX_PATH ${PQ_LIBTORCH})
endif()
find_package(Torch REQUIRED)

add_library(pq_torch INTERFACE)
target_link_libraries(pq_torch INTERFACE ${TORCH_LIBRARIES})
target_include_directories(pq_torch SYSTEM INTERFACE ${TORCH_INCLUDE_DIRS})

# A LibTorch that ships its own fmt puts those headers before the system's; the system's libfmt has no code for them.
get_target_property(PQ_FMT_INCLUDE fmt::fmt INTERFACE_INCLUDE_DIRECTORIES)
foreach(directory IN LISTS TORCH_INCLUDE_DIRS)
  if(EXISTS ${directory}/fmt/format.h AND NOT directory IN_LIST PQ_FMT_INCLUDE)
    target_compile_definitions(pq_torch INTERFACE FMT_HEADER_ONLY)
    break()
  endif()
endforeach()

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
    # ivalue.h first: clang 14 in C++20 mode cannot compile LibTorch 1.13's ATen.h before it has seen the whole of IValue.
    target_precompile_headers(${target} PRIVATE <ATen/core/ivalue.h> <ATen/ATen.h> <ATen/core/grad_mode.h> <string> <vector> <functional> <memory> <fmt/format.h>)
  else()
    # The header was compiled with -fPIC, as libraries are; a program's -fPIE would not match it.
    set_target_properties(${target} PROPERTIES POSITION_INDEPENDENT_CODE OFF)
    target_compile_options(${target} PRIVATE -fPIC)
    target_precompile_headers(${target} REUSE_FROM pq_nn)
  endif()
endfunction()
