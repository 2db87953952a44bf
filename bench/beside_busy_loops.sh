#!/usr/bin/env bash
# beside_busy_loops.sh [-n TURNS] COMMAND...: seconds of COMMAND alone and beside as many busy loops as there are processors, in
# turns, and how much longer it took than its fair share of the machine says (half of each processor: twice the time). A program
# whose threads spin while they wait for each other loses far more than its share.
set -euo pipefail

turns=3
if [ "${1:-}" = -n ]; then
  turns=$2
  shift 2
fi
[ $# -gt 0 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }

loops=()
stop() {
  [ ${#loops[@]} -eq 0 ] || kill "${loops[@]}" 2>/dev/null || true
  loops=()
}
trap stop EXIT

seconds_of() {
  local start end
  start=$(date +%s%N)
  "$@" >/dev/null 2>&1
  end=$(date +%s%N)
  echo "scale=2; ($end - $start) / 1000000000" | bc
}

for ((turn = 1; turn <= turns; ++turn)); do
  alone=$(seconds_of "$@")
  for ((i = 0; i < $(nproc); ++i)); do
    while :; do :; done &
    loops+=($!)
  done
  beside=$(seconds_of "$@")
  stop
  printf '%6.2f s alone, %6.2f s beside %d busy loops: %.2f times the fair share\n' "$alone" "$beside" "$(nproc)" \
    "$(echo "scale=3; $beside / (2 * $alone)" | bc)"
done
