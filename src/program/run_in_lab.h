#pragma once

namespace pq {

/// Runs the verb in the pq-lab that lies beside this program. Does not return when there is one; throws
/// UnsupportedError, with how to get it, when this build has none.
int run_in_lab(int argc, char** argv);

}  // namespace pq
