#pragma once

#include "program/command_line.h"

namespace pq::cli {

// The verbs that run without LibTorch, one file each.
Verb bench_verb();
Verb chat_verb();
/// `argc` and `argv` are the program's: what only pq-lab computes is handed on to it.
Verb eval_verb(int argc, char** argv);
/// Writes a checkpoint in the form of other programs: export_targets.h has a row for each.
Verb export_verb();
Verb inspect_verb();
Verb run_verb();
Verb tokenize_verb();
Verb verify_verb();

}  // namespace pq::cli
