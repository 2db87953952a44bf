#!/usr/bin/env bash
# mpi.sh BIN REPOSITORY: several processes, started by mpirun: the tests of the communicator and of shared evaluations on 2, 3 and 5
# ranks, a rank that fails, and `pq eval` against what one process computes. Skipped (77) without mpirun, or in a build without MPI.
set -uo pipefail
bin=$1
sample=$2/examples/sample-model
prose=$2/examples/prose.txt

# Copies of the same work, which a launcher of another MPI (or a build without MPI) would make, are refused.
message=$(PMI_RANK=0 PMI_SIZE=2 "$bin/pq" eval "$sample" --text "$prose" 2>&1)
if [ $? -ne 2 ] || ! grep -qF "error: mpirun: started 2 processes, but " <<<"$message"; then
  echo "FAILED: two copies of one process were not refused: $message"
  exit 1
fi
. "$2/tests/mpirun.sh" "$bin/pq"
. "$2/tests/checks.sh"

# ranks N CODE PROGRAM...: what N ranks of it write lies in stdout.txt and stderr.txt; all end within a minute, with CODE.
ranks() {
  local count=$1 expected=$2 code
  shift 2
  checks=$((checks + 1))
  PQ_TEST_RANKS=$count timeout 60 mpirun -np "$count" "$@" >stdout.txt 2>stderr.txt </dev/null
  code=$?
  [ $code -eq "$expected" ] || complain "$count ranks of $*: exit code $code: $(cat stdout.txt stderr.txt)"
}

# lines COUNT FILE TEXT: TEXT is in so many lines of FILE.
lines() {
  checks=$((checks + 1))
  [ "$(grep -cF -- "$3" "$2")" -eq "$1" ] || complain "not $1 times '$3' in $2: $(cat "$2")"
}

# number FILE KEY: the first number of that name in a JSON file.
number() { grep -o "\"$2\":[-+0-9.e]*" "$1" | head -n 1 | cut -d: -f2; }

# same FILE FILE KEY...: equal to 1e-12.
same() {
  local one=$1 other=$2 key
  shift 2
  for key in "$@"; do
    checks=$((checks + 1))
    awk -v a="$(number "$one" "$key")" -v b="$(number "$other" "$key")" \
      'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && b != "" && d <= 1e-12 * (a < 0 ? -a : a)) }' ||
      complain "$key differs: $(cat "$one" "$other")"
  done
}

for count in 2 3 5; do
  ranks $count 0 "$bin/communicator_test" --gtest_brief=1
  ranks $count 0 "$bin/eval_ranks_test" --gtest_brief=1
done

ranks 3 0 "$bin/rank_fails" eval none
lines 1 stdout.txt "3 ranks"
lines 1 stderr.txt "a line of the log"
lines 1 stderr.txt "warning: a warning"
# One rank alone: its own message, with its rank. The others wait in a sum for ever, unless they are ended.
ranks 3 2 "$bin/rank_fails" eval 2
lines 1 stderr.txt "error: "
lines 1 stderr.txt "error: rank 2: file.bin: is damaged; copy it again"
lines 0 stdout.txt "ranks"
ranks 3 2 "$bin/rank_fails" eval 0
lines 1 stderr.txt "error: "
lines 1 stderr.txt "error: file.bin: is damaged; copy it again"
# All alike: one message.
ranks 3 2 "$bin/rank_fails" eval all
lines 1 stderr.txt "error: file.bin: is damaged; copy it again"
lines 0 stderr.txt "rank 1:"
ranks 3 1 "$bin/rank_fails" eval bug
lines 1 stderr.txt "error: internal error: index 7"
ranks 3 2 "$bin/rank_fails" eval
lines 1 stderr.txt "error: pq eval: WHO is required"

ranks 2 2 "$bin/pq" run "$sample" --prompt x
lines 1 stderr.txt "error: pq run: works in one process; mpirun is for quantize, compare and eval"
ranks 2 0 "$bin/pq" --version
lines 1 stdout.txt "pq "

quick=(--text "$prose" --length 64 --max-chunks 5 --json)
"$bin/pq" eval "$sample" "${quick[@]}" >one.json 2>/dev/null || complain "pq eval in one process"
for count in 2 3 7; do
  ranks $count 0 "$bin/pq" eval "$sample" "${quick[@]}"
  lines 1 stdout.txt perplexity
  same one.json stdout.txt perplexity mean_nll chunks
done
overlapping=(--text "$prose" --length 64,128 --stride 48 --json)
"$bin/pq" eval "$sample" "${overlapping[@]}" >one.json 2>/dev/null || complain "pq eval --stride in one process"
ranks 3 0 "$bin/pq" eval "$sample" "${overlapping[@]}"
same one.json stdout.txt perplexity mean_nll chunks
generated=(--text "$prose" --generate 5 --prompt-tokens 8 --max-tokens 12 --against "$sample" --json)
"$bin/pq" eval "$sample" "${generated[@]}" >one.json 2>/dev/null || complain "pq eval --generate in one process"
ranks 3 0 "$bin/pq" eval "$sample" "${generated[@]}"
lines 1 stdout.txt repetition_4
same one.json stdout.txt repetition_4 distinct_2 mean_length until_divergence outlier_tokens outlier_max_ratio
ranks 3 2 "$bin/pq" eval "$sample" --text nowhere.txt
lines 1 stderr.txt "nowhere.txt"

# Tasks: the same digits on any number of processes and threads.
tasks=(--tasks paper,mmlu_anatomy,lambada_openai --tasks-dir "$2/tests/goldens/tasks/documents" --json)
digits() { grep -o '"tasks":.*"tasks_seconds"' "$1"; }
"$bin/pq" eval "$sample" "${tasks[@]}" --threads 1 >one.json 2>/dev/null || complain "pq eval --tasks in one process"
for count in 2 3; do
  ranks $count 0 "$bin/pq" eval "$sample" "${tasks[@]}"
  lines 1 stdout.txt '"average"'
  checks=$((checks + 1))
  [ -n "$(digits one.json)" ] && [ "$(digits one.json)" = "$(digits stdout.txt)" ] ||
    complain "tasks on $count ranks differ: $(cat one.json stdout.txt)"
done
ranks 3 2 "$bin/pq" eval "$sample" --tasks piqua --tasks-dir nowhere
lines 1 stderr.txt "did you mean 'piqa'?"

if [ -x "$bin/pq-lab" ]; then
  quick+=(--threads 1) # LibTorch's sums may depend on it
  "$bin/pq" eval "$sample" "${quick[@]}" --against "$sample" --prefix ids:1 >one.json 2>/dev/null || complain "pq-lab eval"
  ranks 2 0 "$bin/pq" eval "$sample" "${quick[@]}" --against "$sample" --prefix ids:1
  lines 1 stdout.txt perplexity
  same one.json stdout.txt perplexity mean_nll kl_divergence chunks
fi

echo "$((checks - failures)) of $checks checks passed"
[ "$failures" -eq 0 ]
