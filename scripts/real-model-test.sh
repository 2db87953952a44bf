#!/usr/bin/env bash
# real-model-test.sh MODEL [TEXT]: the whole path on a real model, which is not in the repository: finds the prefix, quantizes,
# verifies every tensor of the runtime, evaluates and writes greedy text, and holds the figures against bounds. MODEL is a
# directory, a GGUF file, or org/name in the Hugging Face cache; without it PQ_REAL_MODEL names it. TEXT (default: examples/prose.txt)
# is what is evaluated; PQ_REAL_CALIBRATION a text to calibrate on (default: sampled from the model, which takes longer). PQ_BIN is where pq is (default: build/release/bin, else build/dev/bin), PQ_REAL_RECIPES the recipes.
# Exit status 77: there is no model. Takes some minutes for 135 million parameters.
set -uo pipefail

case "${1:-}" in
  -h | --help)
    sed -n '2,7s/^# //p' "$0"
    exit 0
    ;;
esac
top=$(cd "$(dirname "$0")/.." && pwd)
model=${1:-${PQ_REAL_MODEL:-}}
text=${2:-$top/examples/prose.txt}
if [ -z "$model" ]; then
  echo "skipped: no model (name a directory, a GGUF file, or set PQ_REAL_MODEL)"
  exit 77
fi
bin=${PQ_BIN:-$top/build/release/bin}
[ -x "$bin/pq" ] || bin=$top/build/dev/bin
[ -x "$bin/pq" ] || { echo "there is no $bin/pq: build it first, or set PQ_BIN" >&2; exit 2; }
pq=$bin/pq
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

# The largest ratio of a recipe's perplexity to the unquantized model's that passes. 135 million parameters lose far more than
# 7 billion do: SmolLM2-135M has 1.1, 1.3 and 2.5 here.
bound_of() {
  case $1 in
    w8a8kv8-*) echo 1.1 ;;
    w4a16g128) echo 1.6 ;;
    w4a8kv4-*) echo 2.2 ;;
    *) echo 4.0 ;;
  esac
}

check() { # check NAME COMMAND...: says whether it passed
  local name=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    echo "ok      $name"
  else
    echo "FAILED  $name"
    tail -n 5 "$work/log" | sed 's/^/        /'
    failed=1
  fi
}
perplexity() { "$pq" eval "$1" --text "$text" --length 512 --max-chunks 8 --json 2>>"$work/log" | sed -n 's/.*"perplexity": *\([0-9.]*\).*/\1/p' | head -n 1; }

echo "model   $model"
check "inspect" "$pq" inspect "$model"
check "analyze" "$pq" analyze "$model" --set calibration.samples=8 --calibration "${PQ_REAL_CALIBRATION:-self}"
plain=$(perplexity "$model")
echo "FP16    perplexity ${plain:-?}"
[ -n "$plain" ] || { tail -n 5 "$work/log"; exit 1; }

for recipe in ${PQ_REAL_RECIPES:-w8a8kv8-dynamic w4a8kv4-dynamic w4a4kv4-static}; do
  out=$work/$recipe
  check "$recipe quantize" "$pq" quantize "$model" -o "$out" --recipe "$recipe" --calibration "${PQ_REAL_CALIBRATION:-self}"
  [ -d "$out" ] || continue
  check "$recipe has a prefix: $("$pq" inspect "$out" | sed -n 's/^prefix  *//p' | head -n 1)" \
    sh -c '"$1" inspect "$2" --json | grep -Eq "\"prefix_length\": *[1-9]"' - "$pq" "$out"
  check "$recipe verify" "$pq" verify "$out"
  figure=$(perplexity "$out")
  ratio=$(awk -v a="${figure:-0}" -v b="$plain" 'BEGIN { printf "%.3f", a / b }')
  check "$recipe perplexity ${figure:-?}, $ratio of FP16 (at most $(bound_of "$recipe"))" \
    awk -v r="$ratio" -v most="$(bound_of "$recipe")" 'BEGIN { exit !(r > 0.9 && r <= most) }'
  "$pq" run "$out" --prompt "Once upon a time, there was a" -n 24 --temperature 0 >"$work/one" 2>>"$work/log"
  "$pq" run "$out" --prompt "Once upon a time, there was a" -n 24 --temperature 0 >"$work/two" 2>>"$work/log"
  check "$recipe greedy text is the same twice, of more than three words" \
    sh -c 'cmp -s "$1/one" "$1/two" && [ "$(tr -s " \n" "\n\n" <"$1/one" | sort -u | wc -l)" -gt 3 ]' - "$work"
  sed 's/^/        /' "$work/one"
done
exit $failed
