#pragma once

#include <ATen/ATen.h>

#include <string>

#include "program/command_line.h"

namespace CLI {
class App;
}

namespace pq::lab {

/// float32 on --device. Throws InputError for a name that is no device.
at::TensorOptions tensor_options(const CommonOptions& common);

/// --calibration, with the help that all verbs share. `source` must outlive the parsing.
void add_calibration_option(CLI::App& app, std::string& source);

}  // namespace pq::lab
