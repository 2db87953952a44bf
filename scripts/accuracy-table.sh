#!/usr/bin/env bash
# accuracy-table.sh MODEL --text FILE --calibration FILE [--pq PROGRAM] [--work DIR] [--length N] [--full] [--only PATTERN]
#
# Quantizes MODEL with every built-in precision, without and (4 bits and fewer) with fine-tuning, evaluates each checkpoint on
# FILE and prints a Markdown table: perplexity, time to quantize and peak private memory. Each row is a process of its own.
# Fine-tuning: 5 epochs of 128 x 512 tokens, 16 sequences held back, then 2 epochs end to end, in bfloat16; --full adds one row
# at the paper's budget. Finished rows stay in the work directory: a run that was stopped goes on where it was.
set -euo pipefail

usage() { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
[ $# -gt 0 ] || usage
model=$1 text='' calibration='' pq=pq work=accuracy-table length=512 full=no only=
shift
while [ $# -gt 0 ]; do
  case $1 in
    --text) text=$2; shift 2 ;;
    --calibration) calibration=$2; shift 2 ;;
    --pq) pq=$2; shift 2 ;;
    --work) work=$2; shift 2 ;;
    --length) length=$2; shift 2 ;;
    --only) only=$2; shift 2 ;;
    --full) full=yes; shift ;;
    *) usage ;;
  esac
done
[ -n "$text" ] && [ -n "$calibration" ] || usage
mkdir -p "$work"

# value KEY FILE: the last number of that name on the file's line of JSON.
value() { sed -n "s/.*\"$1\":\([-0-9.e+]*\).*/\1/p" "$2"; }

tuned=(--finetune --compute bf16)
budget=("${tuned[@]}" --set finetune.epochs=5 --set finetune.samples=128 --set finetune.length=512 --set finetune.validation=16)
names=() titles=()

# row NAME TITLE RECIPE [FLAGS]: one line of the table.
row() {
  local name=$1 title=$2 recipe=$3 out=$work/$1
  shift 3
  names+=("$name")
  titles+=("$title")
  [[ $name == ${only:-*} ]] || return 0
  if [ ! -s "$out.quantize.json" ]; then
    echo "== $name" >&2
    "$pq" quantize "$model" -o "$out" --force --recipe "$recipe" --calibration "$calibration" --json "$@" >"$out.tmp"
    mv "$out.tmp" "$out.quantize.json"
  fi
  if [ ! -s "$out.eval.json" ]; then
    "$pq" eval "$out" --text "$text" --length "$length" --json --quiet >"$out.tmp"
    mv "$out.tmp" "$out.eval.json"
  fi
}

# both NAME TITLE RECIPE [FLAGS]: without and with fine-tuning.
both() {
  local name=$1 title=$2 recipe=$3
  shift 3
  row "$name" "$title | -" "$recipe" "$@"
  row "$name-tuned" "$title | 5 epochs" "$recipe" "${budget[@]}" "$@"
}

# The prefix that quantize finds, for the unquantized model too.
only='' row w8a8kv8-static "W8A8KV8 | static | yes | -" w8a8kv8-static
prefix=$(sed -n 's/.*"prefix_token_ids":\[\([-0-9,]*\)\].*/\1/p' "$work/w8a8kv8-static.quantize.json")
if [ ! -s "$work/fp16.json" ]; then
  "$pq" eval "$model" --reference --prefix "ids:$prefix" --text "$text" --length "$length" --json --quiet >"$work/fp16.tmp"
  mv "$work/fp16.tmp" "$work/fp16.json"
fi
row w8a8kv8-dynamic "W8A8KV8 | dynamic | yes | -" w8a8kv8-dynamic
for precision in w4a8kv4 w4a4kv4; do
  for mode in static dynamic; do
    both "$precision-$mode" "${precision^^} | $mode | yes" "$precision-$mode"
  done
done
[ $full = no ] || row w4a4kv4-static-full "W4A4KV4 | static | yes | 20 epochs of 512 x 1024" w4a4kv4-static "${tuned[@]}"
for bits in 4 3 2; do
  both "w${bits}a16g128-alone" "W${bits}A16g128 | - | no" "w${bits}a16g128" --prefix none
  both "w${bits}a16g128" "W${bits}A16g128 | - | yes" "w${bits}a16g128"
done

plain=$(sed -n 's/[^}]*"perplexity":\([0-9.]*\),.*"rows".*/\1/p' "$work/fp16.json")
behind=$(value perplexity "$work/fp16.json")
echo "| precision | scales | prefix | fine-tuning | perplexity | over FP16 | seconds | peak memory |"
echo "|---|---|---|---|---:|---:|---:|---:|"
awk -v p="$plain" 'BEGIN { printf "| FP16 | - | no | - | %.2f | | | |\n", p }'
awk -v p="$behind" 'BEGIN { printf "| FP16 | - | yes | - | %.2f | | | |\n", p }'
for i in "${!names[@]}"; do
  out=$work/${names[$i]}
  [ -s "$out.eval.json" ] || continue
  base=$behind
  [[ ${titles[$i]} == *"| no |"* ]] && base=$plain
  awk -v title="${titles[$i]}" -v base="$base" -v p="$(value perplexity "$out.eval.json")" \
    -v s="$(value seconds "$out.quantize.json")" -v m="$(value peak_private_memory_bytes "$out.quantize.json")" \
    'BEGIN { printf "| %s | %.2f | %+.2f%% | %.0f | %.2f GiB |\n", title, p, 100 * (p / base - 1), s, m / 1073741824 }'
done
