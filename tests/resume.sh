#!/usr/bin/env bash
# resume.sh PQ REPOSITORY: a fine-tuning that is killed with kill -9 at several points, runs into a full disk or is asked for something
# else meanwhile. What it ends with is compared, byte for byte, with what a run that was never stopped wrote.
set -uo pipefail
pq=$1
model=$2/examples/sample-model
prose=$2/examples/prose.txt
. "$2/tests/checks.sh"

cp "$prose" prose.txt
text=(--calibration prose.txt)
quick=(--no-search --threads 1 --prefix ids:13,1 --set calibration.samples=2 --set calibration.length=32
  --set search.samples=1 --set search.length=32
  --set finetune.epochs=2 --set finetune.samples=8 --set finetune.length=64 --set finetune.validation=2)

run() { "$pq" quantize "$model" "$@" >stdout.txt 2>stderr.txt </dev/null; }

# stopped_when CONDITION ARGUMENTS...: begins a run and kills it as soon as CONDITION holds.
stopped_when() {
  local condition=$1 pid code
  shift
  checks=$((checks + 1))
  "$pq" quantize "$model" "$@" >stdout.txt 2>stderr.txt </dev/null &
  pid=$!
  until eval "$condition"; do
    if ! kill -0 $pid 2>/dev/null; then
      wait $pid
      complain "ended before '$condition': $(cat stderr.txt)"
      return
    fi
    sleep 0.005
  done
  kill -9 $pid
  wait $pid 2>/dev/null
  code=$?
  [ $code -eq 137 ] || complain "was not killed at '$condition': exit code $code"
}

# finishes OUT ARGUMENTS...: the run ends as if it had never been stopped.
finishes() {
  local out=$1
  checks=$((checks + 1))
  run -o "$@" || complain "the run that goes on in $out: exit code $?: $(cat stderr.txt)"
  cmp -s whole/model.safetensors "$out/model.safetensors" || complain "$out/model.safetensors has other bytes"
  cmp -s whole/config.json "$out/config.json" || complain "$out/config.json differs: $(diff whole/config.json "$out/config.json")"
  [ ! -e "$out.partial" ] || complain "$out.partial is left"
  [ ! -e "$out/resume" ] || complain "$out/resume is left"
}

# refused TEXT ARGUMENTS...: exit code 2, one line that holds TEXT, and what stopped.partial holds stays as it is.
refused() {
  local text=$1 code
  shift
  checks=$((checks + 1))
  "$pq" quantize "$@" >stdout.txt 2>stderr.txt </dev/null
  code=$?
  [ $code -eq 2 ] || complain "pq quantize $*: exit code $code"
  [ "$(grep -c '^error: ' stderr.txt)" -eq 1 ] || complain "pq quantize $*: not one error: $(cat stderr.txt)"
  grep -q -- "$text" stderr.txt || complain "pq quantize $*: no '$text' in: $(cat stderr.txt)"
  diff -r kept stopped.partial/resume >/dev/null || complain "pq quantize $*: the unfinished work was changed"
}

run -o whole "${text[@]}" "${quick[@]}" || complain "the run that is not stopped: exit code $?: $(cat stderr.txt)"
[ "$(grep -c 'epoch 2: loss' stderr.txt)" -eq 6 ] || complain "not 2 epochs of 6 blocks: $(cat stderr.txt)"
[ ! -e whole.partial ] || complain "whole.partial is left"

# Again and again the same run: before anything was saved, after an epoch of the first block, after a block, later.
resume=one.partial/resume
stopped_when "[ -e one.partial ]" -o one "${text[@]}" "${quick[@]}"
[ ! -e $resume/state.safetensors ] || complain "killed too late to have saved nothing"
stopped_when "[ -e $resume/state.safetensors ]" -o one "${text[@]}" "${quick[@]}"
[ ! -e $resume/block-00000.safetensors ] || complain "killed too late to be in the first block"
stopped_when "[ -e $resume/block-00000.safetensors ]" -o one "${text[@]}" "${quick[@]}"
grep -q 'block 0: goes on after epoch' stderr.txt || complain "block 0 began anew: $(cat stderr.txt)"
stopped_when "[ -e $resume/block-00002.safetensors ] && [ -e $resume/state.safetensors ]" -o one "${text[@]}" "${quick[@]}"
cp -r one.partial stopped.partial
cp -r $resume kept
finishes one "${text[@]}" "${quick[@]}"
grep -q 'goes on with 3 of 6 blocks finished' stderr.txt || complain "does not say where it goes on: $(cat stderr.txt)"
# Once, with its streams on the disk, and finished with them in memory.
mkdir streams
stopped_when "[ -e two.partial/resume/block-00003.safetensors ]" -o two "${text[@]}" "${quick[@]}" --stream-dir streams
grep -q 'in mapped files in streams' stderr.txt || complain "--stream-dir: $(cat stderr.txt)"
[ -z "$(ls -A streams)" ] || complain "streams are left: $(ls streams)"
finishes two "${text[@]}" "${quick[@]}"

# Without fine-tuning finished blocks are kept as well.
plain=(--threads 1 --prefix ids:13,1 --set search.samples=2 --set search.length=64)
mv whole tuned
run -o whole "${text[@]}" "${plain[@]}" || complain "the plain run that is not stopped: exit code $?: $(cat stderr.txt)"
stopped_when "[ -e three.partial/resume/block-00001.safetensors ]" -o three "${text[@]}" "${plain[@]}"
finishes three "${text[@]}" "${plain[@]}"
grep -q 'goes on with [2-5] of 6 blocks finished' stderr.txt || complain "a plain run began anew: $(cat stderr.txt)"
rm -r whole && mv tuned whole

# Another run than the one that was stopped.
refused 'stopped.partial/resume: .*recipe.finetune.epochs was 2 and is 3' "$model" -o stopped "${text[@]}" "${quick[@]}" --set finetune.epochs=3
mkdir other
{ cat "$prose" && echo 'One more line.'; } >other/prose.txt
refused 'stopped.partial/resume: .*calibration_text was [^ ]* and is ' "$model" -o stopped "${quick[@]}" --calibration other/prose.txt
cp -r "$model" changed
last=$(($(stat -c %s changed/model.safetensors) - 2))
byte=$(od -An -tu1 -j $last -N 1 changed/model.safetensors)
printf "\\x$(printf %x $((byte ^ 1)))" | dd of=changed/model.safetensors bs=1 seek=$last conv=notrunc 2>dd.txt || complain "dd: $(cat dd.txt)"
refused 'stopped.partial/resume: .*model was [^ ]* and is ' changed -o stopped "${text[@]}" "${quick[@]}"
refused 'stopped.partial/resume: .*recipe.finetune.epochs was 2 and is 0' "$model" -o stopped "${text[@]}" "${quick[@]}" --set finetune.epochs=0
refused 'stopped.partial/resume: .*seed was 0 and is 1.*--restart' "$model" -o stopped "${text[@]}" "${quick[@]}" --seed 1

# The disk is full: block 3's state is larger than a file may be. The work before it is kept.
checks=$((checks + 1))
(
  trap '' XFSZ
  ulimit -f 7000
  run -o stopped "${text[@]}" "${quick[@]}"
)
[ $? -eq 2 ] || complain "a full disk: exit code $?: $(cat stderr.txt)"
[ "$(grep -c '^error: ' stderr.txt)" -eq 1 ] && grep -q 'state.safetensors.*cannot write.*free some disk space' stderr.txt ||
  complain "a full disk: $(cat stderr.txt)"
diff -r kept stopped.partial/resume >/dev/null || complain "a full disk: the unfinished work was changed"
[ "$(ls stopped.partial)" = resume ] || complain "a full disk: $(ls stopped.partial)"
finishes stopped "${text[@]}" "${quick[@]}"

# --restart begins anew, whatever was there; fewer tokens than asked are said and used.
mkdir fresh.partial
cp -r kept fresh.partial/resume
head -c 2500 "$prose" >short.txt
few=("${quick[@]}" --calibration short.txt --set finetune.epochs=1)
checks=$((checks + 1))
run -o fresh "${few[@]}" --restart || complain "--restart: exit code $?: $(cat stderr.txt)"
grep -q '^warning: short.txt.*finetune\|^warning: short.txt' stderr.txt || complain "too few tokens: $(cat stderr.txt)"
grep -q 'goes on' stderr.txt && complain "--restart went on: $(cat stderr.txt)"
[ -e fresh/model.safetensors ] && [ ! -e fresh.partial ] || complain "--restart: $(ls)"

# What cannot be trained stops, and says what to do.
checks=$((checks + 1))
run -o never "${text[@]}" "${quick[@]}" --recipe w2a16g128 --set finetune.samples=8 --set finetune.length=64 --set finetune.weight_rate=1e30 --set finetune.quantizer_rate=1e30
[ $? -eq 2 ] || complain "a loss that is not finite: exit code $?: $(cat stderr.txt)"
grep -q '^warning: block 0, epoch 1, step .*: the loss is not finite' stderr.txt || complain "not named: $(cat stderr.txt)"
grep -q '^error: block 0, epoch 1, step .*at half the learning rate too' stderr.txt || complain "not named: $(cat stderr.txt)"

echo "$((checks - failures)) of $checks checks passed"
[ "$failures" -eq 0 ]
