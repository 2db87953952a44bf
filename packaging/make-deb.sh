#!/usr/bin/env bash
# make-deb.sh [--runtime-only] [FOLDER]: builds the programs and a Debian package of them in FOLDER (here, without one). With --runtime-only
# only `pq`, without LibTorch and MPI: small, and all that running a model takes.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
options=(-DPQ_TESTS=OFF)
build=$root/build/deb
if [ "${1:-}" = --runtime-only ]; then
  options+=(-DPQ_WITH_TORCH=OFF -DPQ_WITH_MPI=OFF)
  build+=-runtime-only
  shift
fi
folder=${1:-$PWD}
if [ $# -gt 1 ] || [[ $folder == -* ]]; then
  echo "error: make-deb.sh: usage: make-deb.sh [--runtime-only] [FOLDER]" >&2
  exit 2
fi
for tool in cmake ninja dpkg-shlibdeps file; do
  command -v "$tool" >/dev/null || { echo "error: make-deb.sh: there is no $tool; apt-get install cmake ninja-build dpkg-dev file" >&2; exit 2; }
done

cmake -S "$root" -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_INSTALL_PREFIX=/usr "${options[@]}"
cmake --build "$build" --parallel "${PQ_JOBS:-$(nproc)}"
mkdir -p "$folder"
cpack --config "$build/CPackConfig.cmake" -G DEB -B "$folder"
rm -rf "$folder/_CPack_Packages"
