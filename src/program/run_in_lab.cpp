#include "program/run_in_lab.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/input_stream.h"
#include "base/process.h"

namespace pq {
namespace {

std::filesystem::path lab_program() { return own_executable().parent_path() / "pq-lab"; }

}  // namespace

std::string flags_of_lab() {
  const std::filesystem::path lab = lab_program();
  if (::access(lab.c_str(), X_OK) != 0) return {};
  // The name goes through the environment, so that the shell takes nothing in it for its own.
  ::setenv("PQ_LAB", lab.c_str(), 1);
  const std::unique_ptr<FILE, int (*)(FILE*)> pipe(::popen("\"$PQ_LAB\" help --flags", "r"), ::pclose);
  return pipe ? read_to_end(::fileno(pipe.get()), lab.string()) : std::string();
}

int run_in_lab(int /*argc*/, char** argv) {
  const std::filesystem::path lab = lab_program();
  if (::access(lab.c_str(), X_OK) != 0) {
    throw UnsupportedError(
        fmt::format("pq {}", argv[1]), "this build has no pq-lab, because it was made without LibTorch",
        "apt-get install libtorch-dev libopenblas0-openmp, then cmake --preset release && cmake --build "
        "--preset release");
  }
  prepare_tensor_environment();
  std::string name = lab.string();
  argv[0] = name.data();
  replace_process(lab, argv);
}

}  // namespace pq
