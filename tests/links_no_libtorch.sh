#!/usr/bin/env bash
# links_no_libtorch.sh PQ [PQ_LAB]: `pq` loads no LibTorch and no BLAS, neither itself nor through a library of its own.
# PQ_LAB, which does load both, shows that the check can tell.
set -euo pipefail

loads_libtorch() {
  local libraries
  libraries=$(ldd "$1")
  grep -Eq 'libtorch|libc10|libcaffe2|blas' <<<"$libraries"
}

if loads_libtorch "$1"; then
  echo "$1 loads LibTorch or a BLAS:" >&2
  ldd "$1" | grep -E 'libtorch|libc10|libcaffe2|blas' >&2
  exit 1
fi
if [ $# -gt 1 ] && ! loads_libtorch "$2"; then
  echo "this check sees no LibTorch in $2 either, so it proves nothing" >&2
  exit 1
fi
