#include "program/run_in_lab.h"

#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/error.h"
#include "base/process.h"

namespace pq {

int run_in_lab(int /*argc*/, char** argv) {
  const std::filesystem::path lab = own_executable().parent_path() / "pq-lab";
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
