#!/usr/bin/env bash
# same-checkpoints.sh OLD_PQ NEW_PQ [MODEL [TEXT]]: quantizes MODEL (default: the sample model) with both programs by four recipes,
# static and dynamic 4-bit, weight-only and fine-tuned, calibrated on TEXT (default: examples/prose.txt), and compares the tensors that
# they wrote, byte for byte. Exit 1 names what differs. For a change after which a checkpoint must be what it was: OLD_PQ is built
# from the commit before it. BUDGET=full takes the recipes' own budgets instead of small ones.
set -uo pipefail

if [ $# -lt 2 ] || [ $# -gt 4 ]; then
  sed -n '2,5s/^# //p' "$0" >&2
  exit 2
fi
top=$(cd "$(dirname "$0")/.." && pwd)
old=$(realpath "$1") new=$(realpath "$2")
model=${3:-$top/examples/sample-model}
text=${4:-$top/examples/prose.txt}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

small=(--set calibration.samples=8 --set calibration.length=128 --set search.samples=2 --set search.length=128)
tuned=(--finetune --set finetune.samples=16 --set finetune.validation=4 --set finetune.length=64 --set finetune.epochs=2)
if [ "${BUDGET:-small}" = full ]; then
  small=()
  tuned=(--finetune)
fi

differing=0
# compare NAME ARGUMENTS...: both programs quantize with ARGUMENTS.
compare() {
  local name=$1 file
  shift
  for program in old new; do
    if ! "${!program}" quantize "$model" -o "$work/$program/$name" --calibration "$text" --quiet "${small[@]}" "$@" >"$work/log" 2>&1; then
      echo "$name: the $program program failed: $(tail -n 1 "$work/log")"
      differing=1
      return
    fi
  done
  local tensors=0
  for file in "$work/old/$name"/*.safetensors; do
    tensors=$((tensors + 1))
    if ! cmp "$file" "$work/new/$name/$(basename "$file")"; then
      differing=1
      return
    fi
  done
  if [ "$tensors" -ne "$(find "$work/new/$name" -name '*.safetensors' | wc -l)" ] || [ "$tensors" -eq 0 ]; then
    echo "$name: not the same files"
    differing=1
    return
  fi
  echo "$name: $(cat "$work/new/$name"/*.safetensors | wc -c) bytes of tensors are the same"
}

compare w4a4kv4-static --recipe w4a4kv4-static
compare w4a4kv4-dynamic --recipe w4a4kv4-dynamic
compare w2a16g128 --recipe w2a16g128
compare fine-tuned --recipe w4a4kv4-static "${tuned[@]}"
exit $differing
