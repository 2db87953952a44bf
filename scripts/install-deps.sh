#!/usr/bin/env bash
# install-deps.sh [--tests]: installs the Debian 12 packages that the build needs; with --tests also those of the tests and the
# lint step. Does nothing when all are there. Optional, for several processes (docs/mpi.md): libopenmpi-dev openmpi-bin.
#
# libopenblas0-openmp, not libopenblas-dev: the latter brings the pthread build of OpenBLAS, which fights LibTorch's OpenMP threads.
set -euo pipefail

packages=(g++ cmake ninja-build pkg-config
  libtorch-dev libopenblas0-openmp
  libcli11-dev nlohmann-json3-dev libfmt-dev libspdlog-dev libpcre2-dev libutf8proc-dev zlib1g-dev
  libxxhash-dev)
if [ "${1:-}" = --tests ]; then
  packages+=(libgtest-dev libgmock-dev librapidcheck-dev libbenchmark-dev clang clang-format clang-tidy
    qemu-user g++-aarch64-linux-gnu googletest libopenmpi-dev openmpi-bin help2man dpkg-dev file)
elif [ $# -gt 0 ]; then
  echo "error: install-deps.sh: unknown argument '$1'; usage: install-deps.sh [--tests]" >&2
  exit 2
fi

if ! command -v dpkg-query >/dev/null; then
  echo "error: install-deps.sh: this system has no dpkg; install the counterparts of these packages: ${packages[*]}" >&2
  exit 2
fi

missing=()
for package in "${packages[@]}"; do
  status=$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null || true)
  [ "$status" = "install ok installed" ] || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
  if ! command -v sudo >/dev/null; then
    echo "error: install-deps.sh: not root, and there is no sudo; as root: apt-get install ${missing[*]}" >&2
    exit 2
  fi
  root=(sudo)
fi

# Mirrors fail now and then: three attempts, with a pause.
try() {
  local attempt
  for attempt in 1 2 3; do
    if "$@"; then return 0; fi
    if [ "$attempt" -lt 3 ]; then sleep $((attempt * 5)); fi
  done
  echo "error: install-deps.sh: this failed three times: $*" >&2
  return 1
}

echo "Installing: ${missing[*]}" >&2
try "${root[@]}" apt-get update -qq
try "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >&2
