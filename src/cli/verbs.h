#pragma once

#include "base/command_line.h"

namespace pq::cli {

// The verbs that run without LibTorch, one file each.
Verb inspect_verb();
Verb tokenize_verb();

/// Runs any other verb in the pq-lab that lies beside this program. Does not return when there is one; throws
/// UnsupportedError, with how to get it, when this build has none.
int run_in_lab(int argc, char** argv);

}  // namespace pq::cli
