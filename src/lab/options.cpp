#include "lab/options.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>

#include "base/error.h"

namespace pq::lab {

at::TensorOptions tensor_options(const CommonOptions& common) {
  try {
    return at::TensorOptions().dtype(at::kFloat).device(at::Device(common.device));
  } catch (const std::exception&) {
    throw InputError(fmt::format("--device {}", common.device), "is no device", "use cpu, cuda or cuda:N");
  }
}

void add_calibration_option(CLI::App& app, std::string& source) {
  app.add_option("--calibration", source,
                 "Text to calibrate on: .txt, or .jsonl or .json with `text` fields, plain or gzip, or a directory of "
                 "such files; "
                 "`self` samples from the model itself")
      ->option_text(fmt::format("PATH (default {})", source));
}

}  // namespace pq::lab
