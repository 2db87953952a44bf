#!/usr/bin/env bash
# lint.sh [--all] [--seconds N]: clang-format on every source, then clang-tidy (.clang-tidy) on those of the part without LibTorch
# (the kernels' bodies, *.inl, as AVX2 has them); with --all on LibTorch's half and the tests too. --seconds N starts no more files
# after N seconds; the ones changed last come first. Needs a configured build/dev (or the folder named by BUILD).
set -uo pipefail

top=$(cd "$(dirname "$0")/.." && pwd)
cd "$top" || exit 2
build=${BUILD:-build/dev}
# One table stands for all: it includes every body of simd/, which the others compile again.
kernels='^src/kernels/(avx512|neon)/'
skip="^src/(nn|quant|tuning|pipeline|lab)/|$kernels|_test\.cpp\$"
deadline=
while [ $# -gt 0 ]; do
  case $1 in
    --all) skip=$kernels && shift ;;
    --seconds) deadline=$(($(date +%s) + $2)) && shift 2 ;;
    *) echo "error: lint.sh: unknown argument '$1'; usage: lint.sh [--all] [--seconds N]" >&2 && exit 2 ;;
  esac
done

# Newest first: what is not committed, then by the last commit that touched it.
sources_by_age() {
  {
    git status --porcelain --untracked-files=all | sed 's/^...//; s/.* -> //'
    git log --name-only --pretty=format: -- src tests bench
    git ls-files
  } | grep -E '^(src|tests|bench)/.*\.(cpp|h|inl)$' | awk '!seen[$0]++' | while read -r file; do [ -f "$file" ] && echo "$file"; done
}

mapfile -t sources < <(sources_by_age)
status=0
clang-format --dry-run -Werror "${sources[@]}" || status=1

if [ ! -f "$build/compile_commands.json" ]; then
  echo "error: lint.sh: $build/compile_commands.json: no such file; cmake --preset dev makes it" >&2
  exit 2
fi
mapfile -t checked < <(printf '%s\n' "${sources[@]}" | grep '^src/.*\.cpp$' | grep -vE "$skip")

log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
tidy() {
  if [ -n "$deadline" ] && [ "$(date +%s)" -ge "$deadline" ]; then
    echo "$1" >>"$log/left"
    return 0
  fi
  clang-tidy -p "$build" --quiet --warnings-as-errors='*' --extra-arg=-Wno-unknown-warning-option "$1" >"$log/${1//\//_}" 2>&1 && return 0
  grep -vE '^[0-9]+ warnings? (generated|treated)|^Suppressed |^Use -(header|system)' "$log/${1//\//_}"
  return 1
}
export -f tidy
export build deadline log
printf '%s\0' "${checked[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c 'tidy "$0"' || status=1

left=$(wc -l 2>/dev/null <"$log/left" || echo 0)
if [ $status -eq 0 ]; then
  echo "lint: ${#sources[@]} files are in format, $((${#checked[@]} - left)) passed clang-tidy, $left left out for lack of time"
fi
exit $status
