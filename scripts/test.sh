#!/usr/bin/env bash
# test.sh [--fast | --all]: installs, builds and tests: the dev build with every test that is not slow, what reads and writes files under the
# address and undefined-behaviour sanitizers, formatting and some clang-tidy. --fast stops after the dev build's tests. --all builds
# the benchmarks too, runs everything without LibTorch under the address and undefined-behaviour sanitizers, what has threads under
# the thread sanitizer, and clang-tidy over all. The last line counts the tests: "N passed, N failed, N skipped".
set -uo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 2
results=$top/build/test-results
rm -rf "$results"
mkdir -p "$results"
passed=0 failed=0 skipped=0
failed_steps=()

say() { printf '\n== %s (after %d s)\n' "$*" "$SECONDS"; }

fail() {
  failed_steps+=("$1")
  failed=$((failed + 1))
}

# attribute NAME < XML element: its value, 0 when absent.
attribute() { sed -n "s/.*[ <]$1=\"\([0-9]*\)\".*/\1/p" | head -n 1 | grep . || echo 0; }

# Adds up one ctest run: each test of a GoogleTest program counts, any other ctest entry counts as one.
count_results() {
  local folder=$1 line name status report head tests failures skips
  while read -r line; do
    name=$(sed 's/.*<testcase name="\([^"]*\)".*/\1/' <<<"$line")
    status=$(sed 's/.* status="\([^"]*\)".*/\1/' <<<"$line")
    report=$folder/${name}_test.xml
    if [ -s "$report" ]; then
      head=$(grep -m 1 '<testsuites' "$report")
      tests=$(attribute tests <<<"$head")
      failures=$(attribute failures <<<"$head")
      skips=$(grep -c '<skipped' "$report")
      passed=$((passed + tests - failures - skips))
      skipped=$((skipped + skips))
      failed=$((failed + failures))
      if [ "$status" = fail ] && [ "$failures" -eq 0 ]; then failed=$((failed + 1)); fi
      grep -B 1 '<skipped' "$report" | sed -n 's/.*<testcase name="\([^"]*\)".* classname="\([^"]*\)".*/skipped: \2.\1/p'
      sed -n 's/.*<skipped message="[^"]*&#x0A;\([^"]*\)".*/    \1/p' "$report" | sort -u
    else
      case $status in
        run) passed=$((passed + 1)) ;;
        fail) failed=$((failed + 1)) ;;
        *) skipped=$((skipped + 1)) && echo "skipped: $name" ;;
      esac
    fi
  done < <(grep '<testcase ' "$folder/ctest.xml")
}

# build_and_test PRESET [NAME...]: all, or only the test programs of these names.
build_and_test() {
  local preset=$1 folder=$results/$1
  shift
  mkdir -p "$folder"
  say "$preset: build"
  if ! cmake --preset "$preset" >"$folder/configure.log" 2>&1; then
    tail -n 30 "$folder/configure.log"
    fail "$preset: configure"
    return
  fi
  local target=() select=()
  if [ $# -gt 0 ]; then
    target=(--target "${@/%/_test}")
    select=(-R "^($(IFS='|' && echo "$*"))\$")
  fi
  if ! cmake --build --preset "$preset" "${target[@]}" >"$folder/build.log" 2>&1; then
    grep -E -A 8 'error:|FAILED:' "$folder/build.log" | head -n 60
    fail "$preset: build"
    return
  fi
  say "$preset: tests"
  if ! GTEST_OUTPUT="xml:$folder/" ctest --preset "$preset" "${select[@]}" --no-tests=error --output-junit "$folder/ctest.xml" |
    grep -v '^ *Start'; then
    failed_steps+=("$preset: tests")
  fi
  count_results "$folder"
}

finish() {
  echo
  if [ ${#failed_steps[@]} -gt 0 ]; then
    printf 'failed: %s\n' "${failed_steps[@]}"
    # A run that broke off without a failing test never reads as success.
    if [ "$failed" -eq 0 ]; then failed=1; fi
  fi
  echo "$passed passed, $failed failed, $skipped skipped"
  if [ "$failed" -gt 0 ]; then exit 1; fi
  exit 0
}

say "packages"
"$top/scripts/install-deps.sh" --tests || {
  fail "packages"
  finish
}

build_and_test dev
if [ "${1:-}" = --fast ]; then finish; fi
if [ "${1:-}" = --all ]; then
  cmake --build --preset dev --target benchmarks >"$results/benchmarks.log" 2>&1 || fail "benchmarks"
  build_and_test asan
  build_and_test tsan base runtime
  lint=()
else
  build_and_test asan base io
  lint=(--seconds 30)
fi

say "format and clang-tidy"
"$top/scripts/lint.sh" "${lint[@]}" || fail "lint"
finish
