# Instruction sets: ONE table, from which come both the compiler flags of the sources and the processor features that
# select.cpp asks for. In order of preference, the best last. A row:
#   name | namespace | folder | processors | definitions | compiler flags | processor features (names of cpu_features.cpp)
set(PQ_ISA_TABLE
  "scalar|scalar|scalar|any|||"
  "neon|neon|neon|aarch64,arm64||-march=armv8.2-a+dotprod+fp16|asimd asimddp"
  "avx2|avx2|avx2|x86_64,AMD64||-mavx2 -mfma -mf16c|avx2 fma f16c"
  "avx2-vnni|avx2_vnni|avx2|x86_64,AMD64|PQ_AVX_VNNI|-mavx2 -mfma -mf16c -mavxvnni|avx2 fma f16c avxvnni"
  "avx512|avx512|avx512|x86_64,AMD64||-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c -mprefer-vector-width=512|avx512f avx512bw avx512vl avx512dq avx512vnni fma f16c"
  "avx512-bf16|avx512_bf16|avx512|x86_64,AMD64|PQ_BF16_DOT|-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c -mavx512bf16 -mprefer-vector-width=512|avx512f avx512bw avx512vl avx512dq avx512vnni fma f16c avx512bf16"
  "amx|amx|avx512|x86_64,AMD64|PQ_BF16_DOT,PQ_MATRIX_TILES|-mavx512f -mavx512bw -mavx512vl -mavx512dq -mavx512vnni -mfma -mf16c -mavx512bf16 -mamx-tile -mamx-int8 -mamx-bf16 -mprefer-vector-width=512|avx512f avx512bw avx512vl avx512dq avx512vnni fma f16c avx512bf16 amxtile amxint8 amxbf16"
)

# pq_add_isa_objects(PREFIX SCALAR_SOURCES... ): an object library PREFIX_<namespace> for every row that this processor can
# run: FOLDER/table.cpp, and for the scalar row SCALAR_SOURCES too. Sets PQ_ISA_NAMESPACES and writes `header`, a line
# PQ_ISA(namespace, "name", "features") a row.
function(pq_add_isa_objects prefix header)
  set(optimize "$<$<NOT:$<CONFIG:Debug>>:-O3>")
  if(PQ_SANITIZE)
    set(optimize "")  # sanitized kernels would take minutes to optimize
  endif()
  set(lines "")
  set(namespaces "")
  foreach(row IN LISTS PQ_ISA_TABLE)
    string(REPLACE "|" ";" cells "${row}")
    list(GET cells 0 name)
    list(GET cells 1 namespace)
    list(GET cells 2 folder)
    list(GET cells 3 processors)
    list(GET cells 4 definitions)
    list(GET cells 5 flags)
    list(GET cells 6 features)
    # Sanitizers see each source once: a table that a definition makes of another one's sources brings nothing new.
    if(PQ_SANITIZE AND NOT definitions STREQUAL "")
      continue()
    endif()
    string(REPLACE "," ";" processors "${processors}")
    string(REPLACE "," ";" definitions "${definitions}")
    if(NOT processors STREQUAL "any" AND NOT CMAKE_SYSTEM_PROCESSOR IN_LIST processors)
      continue()
    endif()
    set(sources ${folder}/table.cpp)
    if(namespace STREQUAL "scalar")
      list(APPEND sources ${ARGN})
    endif()
    add_library(${prefix}_${namespace} OBJECT ${sources})
    target_include_directories(${prefix}_${namespace} PRIVATE ${PQ_ROOT}/src)
    separate_arguments(flags)
    # One rounding an operation, as in pq_numerics: where a fused multiply-add is wanted, the source says so.
    target_compile_options(${prefix}_${namespace} PRIVATE -ffp-contract=off ${optimize} ${flags})
    # g++ 12 takes the undefined registers in its own AVX-512 headers for a mistake of ours (its bug 105593).
    target_compile_options(${prefix}_${namespace} PRIVATE "$<$<CXX_COMPILER_ID:GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>")
    target_compile_definitions(${prefix}_${namespace} PRIVATE PQ_ISA_NAME="${name}" ${definitions})
    target_link_libraries(${prefix}_${namespace} PRIVATE pq_flags)
    list(APPEND namespaces ${namespace})
    string(APPEND lines "PQ_ISA(${namespace}, \"${name}\", \"${features}\")\n")
  endforeach()
  file(CONFIGURE OUTPUT ${header} CONTENT "${lines}" @ONLY)
  set(PQ_ISA_NAMESPACES ${namespaces} PARENT_SCOPE)
endfunction()
