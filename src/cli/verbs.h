#pragma once

#include "program/command_line.h"

namespace pq::cli {

// The verbs that run without LibTorch, one file each.
Verb bench_verb();
Verb chat_verb();
/// `argc` and `argv` are the program's: what only pq-lab computes is handed on to it.
Verb eval_verb(int argc, char** argv);
Verb inspect_verb();
Verb run_verb();
Verb tokenize_verb();
Verb verify_verb();

/// Runs any other verb in the pq-lab that lies beside this program. Does not return when there is one; throws
/// UnsupportedError, with how to get it, when this build has none.
int run_in_lab(int argc, char** argv);

}  // namespace pq::cli
