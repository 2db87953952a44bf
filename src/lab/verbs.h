#pragma once

#include "program/command_line.h"

namespace pq::lab {

// The verbs that need LibTorch, one file each.
Verb analyze_verb();
Verb compare_verb();
Verb eval_verb();
Verb quantize_verb();

/// Gives LibTorch the threads of --threads, and refuses a --device that it does not have. Throws UnsupportedError.
void apply_common_options(const CommonOptions& common);

}  // namespace pq::lab
