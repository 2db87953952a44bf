#pragma once

namespace pq {

/// Ctrl-C and SIGTERM end the process by their signal, after a line on stderr; a closed pipe is an error of the write.
void install_signal_handlers();

/// To be called where an exception was caught: says on stderr what went wrong, in one line ("error: WHERE: WHAT;
/// REMEDY"), and ends the other processes of an mpirun. Returns the exit code: 2 for a pq::Error, memory that ran out
/// or a refusal of the system, 0 (and no line) for a reader that closed stdout early, 1 for any other exception (a
/// bug).
int end_with_current_exception();

}  // namespace pq
