#pragma once

namespace pq {

/// What the environment says of a launcher (mpirun, srun): known before MPI is started, and without it.
struct Launch {
  int rank = 0;
  int size = 1;  ///< processes started together; 0: there is a launcher, but it does not say
  bool one_process() const { return size == 1; }
};
const Launch& launch();

}  // namespace pq
