# Sourced with the path of a program by the tests that start it under mpirun: skips the test (77) where that cannot be, and says how mpirun
# is to behave on a test machine.
if ! command -v mpirun >/dev/null || ! ldd "$1" | grep libmpi >/dev/null; then
  echo "skipped: no mpirun, or $(basename "$1") was built without MPI"
  exit 77
fi
# Variables, not flags: an mpirun that is not Open MPI's ignores them.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 # MPI's own
export OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_btl_vader_single_copy_mechanism=none
