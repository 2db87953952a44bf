# Flags shared by every target, and the two functions that declare libraries and tests.

# Not CMAKE_SOURCE_DIR: tests/cross is a project of its own over the same folders.
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH PQ_ROOT)

add_library(pq_flags INTERFACE)
target_compile_options(pq_flags INTERFACE -Wall -Wextra -Wpedantic -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Woverloaded-virtual)
# GCC 12 sees overlapping copies in std::string's operator+ at -O3 where there are none (its bug 105329).
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  target_compile_options(pq_flags INTERFACE -Wno-restrict)
endif()
if(PQ_WARNINGS_AS_ERRORS)
  target_compile_options(pq_flags INTERFACE -Werror)
endif()
if(PQ_SANITIZE)
  target_compile_options(pq_flags INTERFACE -fsanitize=${PQ_SANITIZE} -fno-omit-frame-pointer -fno-sanitize-recover=all)
  target_link_options(pq_flags INTERFACE -fsanitize=${PQ_SANITIZE})
endif()

# pq_add_library(NAME SOURCES a.cpp ... DEPENDS pq_base ...): static library pq_NAME, headers included as "NAME/x.h".
function(pq_add_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS" ${ARGN})
  add_library(pq_${name} STATIC ${ARG_SOURCES})
  target_include_directories(pq_${name} PUBLIC ${PQ_ROOT}/src)
  target_link_libraries(pq_${name} PUBLIC ${ARG_DEPENDS} PRIVATE pq_flags)
endfunction()

# pq_add_tests(NAME SOURCES a_test.cpp ... DEPENDS pq_x ... [LABELS slow]): one GoogleTest program and one CTest entry for each
# test in it. PQ_SOURCE_DIR names the repository, PQ_SHARED_DIR the optional folder of larger models and texts beside it.
function(pq_add_tests name)
  if(NOT PQ_TESTS)
    return()
  endif()
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LABELS" ${ARGN})
  if(NOT TARGET pq_own_temporary_directory)
    add_library(pq_own_temporary_directory OBJECT ${PQ_ROOT}/tests/own_temporary_directory.cpp)
    target_link_libraries(pq_own_temporary_directory PRIVATE pq_flags GTest::gmock)
    if(TARGET fmt::fmt)  # not in tests/cross
      # The precompiled header that test programs share; a third of what compiling them takes.
      target_link_libraries(pq_own_temporary_directory PRIVATE fmt::fmt)
      target_precompile_headers(pq_own_temporary_directory PRIVATE <gmock/gmock.h> <gtest/gtest.h> <fmt/format.h> <nlohmann/json.hpp> <filesystem> <fstream>
        <functional> <string> <vector>)
    endif()
    target_compile_options(pq_own_temporary_directory PRIVATE $<$<CONFIG:RelWithDebInfo>:-O1>)
  endif()
  add_executable(${name}_test ${ARG_SOURCES} $<TARGET_OBJECTS:pq_own_temporary_directory>)
  target_link_libraries(${name}_test PRIVATE ${ARG_DEPENDS} pq_flags GTest::gmock GTest::gtest_main)
  list(FILTER ARG_DEPENDS INCLUDE REGEX "^pq_(nn|quant|tuning|pipeline|lab)$")
  if(NOT ARG_DEPENDS)  # those with LibTorch share its precompiled header, and so its optimization
    # Tests are compiled more often than they run.
    target_compile_options(${name}_test PRIVATE $<$<CONFIG:RelWithDebInfo>:-O1>)
    if(TARGET fmt::fmt)
      # Libraries are compiled with -fPIC; a program's -fPIE would not match.
      set_target_properties(${name}_test PROPERTIES POSITION_INDEPENDENT_CODE OFF)
      target_compile_options(${name}_test PRIVATE -fPIC)
      target_precompile_headers(${name}_test REUSE_FROM pq_own_temporary_directory)
    endif()
  endif()
  target_compile_definitions(${name}_test PRIVATE PQ_SOURCE_DIR="${PQ_ROOT}"
    PQ_SHARED_DIR="${PQ_ROOT}/../shared" PQ_BINARY_DIR="${CMAKE_BINARY_DIR}/bin")
  set(labels fast)
  if(ARG_LABELS)
    set(labels ${ARG_LABELS})
  endif()
  add_test(NAME ${name} COMMAND ${name}_test --gtest_brief=1)
  set_tests_properties(${name} PROPERTIES LABELS "${labels}" TIMEOUT 600)
endfunction()
