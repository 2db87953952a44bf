#!/usr/bin/env bash
# neon_test.sh SOURCE_DIR BUILD_DIR: builds the kernels for 64-bit ARM and runs their tests under qemu. Exits with 77
# (skipped) where the cross compiler, qemu or the sources of GoogleTest are not installed.
set -euo pipefail

source_dir=$1
build_dir=$2
for needed in aarch64-linux-gnu-g++ qemu-aarch64; do
  if ! command -v "$needed" >/dev/null; then
    echo "skipped: no $needed; scripts/install-deps.sh --tests installs it"
    exit 77
  fi
done
if [ ! -f /usr/src/googletest/CMakeLists.txt ]; then
  echo "skipped: no /usr/src/googletest; scripts/install-deps.sh --tests installs it"
  exit 77
fi

cmake -G Ninja -S "$source_dir/tests/cross" -B "$build_dir" -DCMAKE_TOOLCHAIN_FILE="$source_dir/tests/cross/aarch64.cmake" \
  -DCMAKE_BUILD_TYPE=Release >"$build_dir.log" 2>&1 || {
  cat "$build_dir.log"
  exit 1
}
cmake --build "$build_dir" --parallel 2 >"$build_dir.log" 2>&1 || {
  grep -E -A 8 'error|FAILED' "$build_dir.log" | head -n 60
  exit 1
}
ctest --test-dir "$build_dir" --output-on-failure --no-tests=error
# Nothing is skipped for want of an instruction: qemu has them all.
if grep SKIPPED "$build_dir/Testing/Temporary/LastTest.log"; then exit 1; fi
