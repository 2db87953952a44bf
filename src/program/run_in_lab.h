#pragma once

#include <string>

namespace pq {

/// Runs the verb in the pq-lab that lies beside this program. Does not return when there is one; throws
/// UnsupportedError, with how to get it, when this build has none.
int run_in_lab(int argc, char** argv);

/// What that pq-lab says to `help --flags`; empty without one.
std::string flags_of_lab();

}  // namespace pq
