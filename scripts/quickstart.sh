#!/usr/bin/env bash
# quickstart.sh [OUT]: from a fresh Debian 12 to a quantized model and the table of what it cost. Installs the packages, builds
# `pq`, quantizes the sample model to 4 bits into OUT (default: out/sample-w4a4kv4-static here; a second run replaces it).
set -euo pipefail

case "${1:-}" in
  -h | --help)
    sed -n '2,3s/^# //p' "$0"
    exit 0
    ;;
esac
top=$(cd "$(dirname "$0")/.." && pwd)
out=${1:-out/sample-w4a4kv4-static}
model=$top/examples/sample-model
text=$top/examples/prose.txt
pq=$top/build/release/bin/pq

say() { printf '\n== %s\n' "$*"; }
show_and_run() {
  printf '$ pq %s\n' "$*"
  "$pq" "$@"
}

say "Packages"
"$top/scripts/install-deps.sh"
echo "all there"

say "Build (build/release)"
(cd "$top" && cmake --preset release >/dev/null && cmake --build --preset release --target pq pq-lab)

say "Quantize the sample model: weights, activations and KV cache to 4 bits"
show_and_run quantize "$model" -o "$out" --recipe w4a4kv4-static --force

say "What is in it"
show_and_run inspect "$out"

say "What each step of the method brings on this model"
show_and_run compare "$model" --text "$text" --length 256 --precisions w4a4kv4 --set search.samples=2

cat <<END

The sample model is tiny and its outlier tokens were induced on purpose (examples/sample-model/README.md says how).

Next, with $pq:
  pq quantize MODEL -o OUT --recipe w4a4kv4-static      any Llama, Mistral or Qwen2: a directory, or org/name from the local cache
  pq eval OUT --text TEXT --against MODEL               perplexity, and the distance from the original
  pq help                                               all verbs; pq help quantize lists every setting of a recipe
END
