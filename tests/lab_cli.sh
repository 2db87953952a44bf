#!/usr/bin/env bash
# lab_cli.sh PQ REPOSITORY: the verbs of pq-lab as a user meets them. Every refusal is one line, names what is wrong and what to do, ends
# with exit code 2 and writes nothing; then one small run of each verb.
set -uo pipefail
pq=$1
model=$2/examples/sample-model
prose=$2/examples/prose.txt
. "$2/tests/checks.sh"

# refused TEXT ARGUMENTS...: exit code 2, one line on stderr (warnings apart) that holds TEXT, nothing on stdout, no OUT.
refused() {
  local text=$1 code
  shift
  checks=$((checks + 1))
  "$pq" "$@" >stdout.txt 2>stderr.txt </dev/null
  code=$?
  [ $code -eq 2 ] || complain "pq $*: exit code $code"
  [ "$(grep -vc '^warning: ' stderr.txt)" -eq 1 ] || complain "pq $*: stderr is not one line: $(cat stderr.txt)"
  grep -qF -- "$text" stderr.txt || complain "pq $*: no '$text' in: $(cat stderr.txt)"
  [ ! -s stdout.txt ] || complain "pq $*: something on stdout"
  if [ -e out ] || [ -e out.partial ]; then complain "pq $*: something was written"; fi
  rm -rf out out.partial
}

accepted() {
  checks=$((checks + 1))
  "$pq" "$@" >stdout.txt 2>stderr.txt </dev/null || complain "pq $*: exit code $?: $(cat stderr.txt)"
}

: >empty.txt
printf '{"text": "a"}\n{"body": "b"}\n' >no_text.jsonl
printf 'Only a few words.' >short.txt
cp -r "$model" truncated && truncate -s 1000000 truncated/model.safetensors
cp -r "$model" lying && sed -i 's/"hidden_size": 256/"hidden_size": 512/' lying/config.json
cp -r "$model" scaled && sed -i 's/"rope_scaling": null/"rope_scaling": {"type": "dynamic", "factor": 4.0}/' scaled/config.json
cp -r "$model" gelu && sed -i 's/"hidden_act": "silu"/"hidden_act": "gelu"/' gelu/config.json
cp -r "$model" bert && sed -i 's/"model_type": "llama"/"model_type": "bert"/' bert/config.json
cp -r "$model" unigram && echo '{"model": {"type": "Unigram", "vocab": []}}' >unigram/tokenizer.json
cp -r "$model" untokenized && rm untokenized/tokenizer.json

refused "did you mean 'w4a4kv4-static'?" quantize "$model" -o out --recipe w4a4kv4-statik
refused "did you mean 'weight.bits'?" quantize "$model" -o out --set weight.bit=3
refused "did you mean 'down_proj'?" quantize "$model" -o out --set linear.down_prj.weight.bits=8
refused "'1-2-3' is no range of blocks" quantize "$model" -o out --set blocks.1-2-3.weight.bits=8
refused "there is no block 9: the model has 6" quantize "$model" -o out --set blocks.2-9.weight.bits=8
refused "there is no block 9: the model has 6" quantize "$model" -o out --set blocks.2-9.weight.bits=8 --dry-run
refused "there is no block 9: the model has 6" compare "$model" --text "$prose" --set blocks.2-9.weight.bits=8
refused "q_proj and k_proj read the same numbers" quantize "$model" -o out --set linear.q_proj.activation.bits=8
refused "rotate.r4 is the whole model's" quantize "$model" -o out --set blocks.0.rotate.r4=false
refused "empty.txt: the calibration text is empty" quantize "$model" -o out --calibration empty.txt
refused "no_text.jsonl, line 2" quantize "$model" -o out --calibration no_text.jsonl
refused "nowhere.txt: no such file" quantize "$model" -o out --calibration nowhere.txt
refused "outside the vocabulary of 8192" quantize "$model" -o out --prefix ids:9000 --calibration "$prose"
refused "truncated/model.safetensors" quantize truncated -o out
refused "lying/model.safetensors" quantize lying -o out
refused "dynamic" quantize scaled -o out
head -c 5000 "$2/tests/goldens/gguf/qwen3.gguf" >cut.gguf
refused "cut.gguf" quantize cut.gguf -o out
refused "gelu" quantize gelu -o out
refused "bert" quantize bert -o out
refused "Unigram" quantize unigram -o out
refused "tokenizer.json" quantize untokenized -o out
refused "no/such" quantize no/such -o out
refused "short.txt: has" eval "$model" --text short.txt --length 256
refused "less than one chunk of 256" eval "$model" --text short.txt --length 256
refused "--stride: 65 tokens from one window of 64 to the next leave some out" eval "$model" --text "$prose" --length 64 --stride 65
refused "--llama-cpp-chunks" eval "$model" --text "$prose" --llama-cpp-chunks --stride 4
refused "less than one chunk of 100000" eval "$model" --text "$prose" --length 64,100000
refused "less than 5000 prompts of 32" eval "$model" --text "$prose" --generate 5000
refused "--generate: runs on the runtime" eval "$model" --text "$prose" --generate 5 --reference
refused "nowhere.txt" eval "$model" --text nowhere.txt
refused "'tpu' is not a device" eval "$model" --text "$prose" --device tpu
refused "--text" eval "$model"

quick=(--calibration "$prose" --set calibration.samples=4 --set calibration.length=64 --set search.samples=2 --set search.length=64)
accepted quantize "$model" -o one "${quick[@]}" --prefix ids:8142,13,1
[ -f one/model.safetensors ] && [ ! -e one.partial ] || complain "quantize left no checkpoint"
checks=$((checks + 1))
"$pq" quantize "$model" -o one "${quick[@]}" >stdout.txt 2>stderr.txt
[ $? -eq 2 ] && grep -q -- "--force" stderr.txt || complain "a finished checkpoint was not protected: $(cat stderr.txt)"
accepted quantize "$model" -o two "${quick[@]}" --prefix ids:8142,13,1 --json
grep -q '"prefix_token_ids":\[8142,13,1\]' stdout.txt || complain "quantize --json: $(cat stdout.txt)"
cmp -s one/model.safetensors two/model.safetensors || complain "the same command gave other bytes"
# Formats of some blocks and linear layers, from the command line to both halves.
scoped=(--set linear.down_proj.weight.bits=8 --set blocks.0-1.activation.bits=8 --set blocks.2.kv.bits=8 --set blocks.3.linear.q_proj.weight.bits=16)
accepted quantize "$model" -o mixed "${quick[@]}" --prefix ids:8142,13,1 "${scoped[@]}" --json
checks=$((checks + 1))
grep -q '"overrides":\["linear.down_proj.weight.bits=8","blocks.0-1.activation.bits=8",' stdout.txt || complain "quantize --json: $(cat stdout.txt)"
accepted inspect mixed
checks=$((checks + 1))
grep -q "W4A4KV4 mixed" stdout.txt && grep -q "linear.down_proj.weight.bits=8, blocks.0-1.activation.bits=8" stdout.txt || complain "inspect: $(cat stdout.txt)"
accepted verify mixed --text "$prose"
accepted eval mixed --text "$prose" --length 128 --max-chunks 4
accepted eval mixed --text "$prose" --length 128 --max-chunks 4 --reference
accepted bench mixed --test pp16 --reps 1
accepted eval one --text "$prose" --length 128 --max-chunks 4 --against "$model" --json
for key in '"perplexity"' '"kl_divergence"' '"top1_agreement"' '"seconds"' '"peak_memory_bytes"' '"name":"FP16"' '"name":"FP16 + prefix"'; do
  grep -qF "$key" stdout.txt || complain "eval --json has no $key: $(cat stdout.txt)"
done
accepted eval "$model" --text "$prose" --length 128 --max-chunks 4 --against "$model" --prefix ids:1 --json
grep -q '"kl_divergence":0.0,"top1_agreement":1.0' stdout.txt || complain "the model differs from itself: $(cat stdout.txt)"
accepted eval one --text "$prose" --length 64,128 --stride 48 --max-chunks 4 --against "$model" --json
for key in '"stride":48' '"lengths":[{"length":64,"chunks":4,' '{"length":128,"chunks":4,'; do
  grep -qF "$key" stdout.txt || complain "eval --stride --json has no $key: $(cat stdout.txt)"
done
accepted eval one --text "$prose" --length 128 --max-chunks 2 --llama-cpp-chunks --reference
grep -q "2 chunks of 128 tokens, the second half scored" stdout.txt || complain "eval --llama-cpp-chunks: $(cat stdout.txt)"
accepted eval one --text "$prose" --generate 3 --prompt-tokens 8 --max-tokens 16 --against "$model" --json
for key in '"name":"w4a4kv4-static"' '"until_divergence":' '"outlier_tokens":' '"name":"FP16"' '"identical_share":1.0' '"name":"the text"'; do
  grep -qF "$key" stdout.txt || complain "eval --generate --json has no $key: $(cat stdout.txt)"
done
accepted compare "$model" --text "$prose" --length 64,128 --max-chunks 2 --precisions w4a4kv4 "${quick[@]}" --prefix ids:8142,13,1
grep -q "perplexity 64  perplexity 128" stdout.txt || complain "compare has no column a length: $(cat stdout.txt)"
accepted compare "$model" --text "$prose" --length 128 --max-chunks 2 --precisions w4a4kv4 "${quick[@]}" --prefix ids:8142,13,1 --json
[ "$(grep -o '"activation":"static"' stdout.txt | wc -l)" -eq 3 ] || complain "compare: not three static rows: $(cat stdout.txt)"
[ "$(grep -o '"activation":"dynamic"' stdout.txt | wc -l)" -eq 5 ] || complain "compare: not five dynamic rows"
tasks=(--tasks paper --tasks-dir "$2/tests/goldens/tasks/documents" --limit 3)
accepted compare "$model" --text "$prose" --length 128 --max-chunks 1 --precisions w4a4kv4 "${quick[@]}" --prefix ids:8142,13,1 "${tasks[@]}"
checks=$((checks + 1))
grep -qE 'top-1 +piqa +arc_easy +arc_challenge +hellaswag +winogrande +average +seconds' stdout.txt || complain "no columns of tasks: $(cat stdout.txt)"
checks=$((checks + 1))
grep -q 'w4a4kv4-static' one/README.md && grep -q '^license: unknown$' one/README.md && grep -q '^<!-- prefixquant [0-9a-f]* -->$' one/README.md ||
  complain "no model card: $(cat one/README.md)"
! grep -q "$(dirname "$model")" one/README.md one/report.html || complain "a report names a directory of this machine"
cp -r one changed && echo mine >>changed/README.md
"$pq" quantize "$model" -o changed --force "${quick[@]}" --prefix ids:8142,13,1 >stdout.txt 2>stderr.txt
[ $? -eq 2 ] && grep -q 'changed/README.md' stderr.txt && tail -1 changed/README.md | grep -qx mine || complain "a card that was changed was replaced: $(cat stderr.txt)"
grep -q -- '--set linear.down_proj.weight.bits=8 --set blocks.0-1.activation.bits=8' mixed/README.md || complain "the card's command has no formats of layers: $(cat mixed/README.md)"
# Which layers hurt, from a run, from what it keeps, and measured in the model.
for part in 'id="linear-costs"' 'id="linear-errors"' 'id="block-errors"' '.weight.bits=8' 'id="kind-kl"' 'pq quantize sample-model -o one-mended'; do
  grep -qF -- "$part" one/report.html || complain "the page of quantize has no $part"
done
cp one/report.html page.html && cp one/README.md card.md && rm one/report.html
accepted inspect one --report --json
cmp -s page.html one/report.html && cmp -s card.md one/README.md || complain "inspect --report gives another page or card"
"$pq" inspect changed --report >stdout.txt 2>stderr.txt
[ $? -eq 2 ] && grep -q 'changed/README.md.*--force' stderr.txt || complain "inspect --report replaced a card that was changed: $(cat stderr.txt)"
accepted inspect changed --report --force
refused "is no quantized checkpoint: it has no report" inspect "$model" --report
cp -r one unkept && rm unkept/report.json
refused "unkept/report.json: no such file" inspect unkept --report
echo '{"prefixquant_report": 2, "report": {"model": 3}}' >unkept/report.json
refused "unkept/report.json" inspect unkept --report
refused "--against MODEL" analyze one --calibration "$prose" --tokens 64
refused "page.html: already exists" analyze one --against "$model" --calibration "$prose" --tokens 64 -o page.html
accepted analyze one --against "$model" --calibration "$prose" --tokens 128 --linears 3 -o layers.html --json
for key in '"block_kl":[' '"kinds":[{"name":"' '"proposal":{"names":["' '"worst":[{"block":' '.bits=8"' '"report":"layers.html"'; do
  grep -qF -- "$key" stdout.txt || complain "analyze of a checkpoint --json has no $key: $(cat stdout.txt)"
done
grep -q 'id="block-kl"' layers.html || complain "no picture of the blocks in layers.html"
accepted analyze one --against "$model" --calibration "$prose" --tokens 64 --linears 3
grep -q '^to mend first: ' stdout.txt || complain "analyze proposes nothing: $(cat stdout.txt)"
mending=$(sed -n 's/^  pq quantize .* -o one-mended //p' stdout.txt)
accepted quantize "$model" -o mended $mending --dry-run
accepted quantize "$model" -o one --force --no-report "${quick[@]}" --prefix ids:8142,13,1
[ ! -e one/README.md ] && [ ! -e one/report.html ] || complain "--no-report left a report"
printf '{"rows": [{"recipe": "w4a4kv4-static", "test": "tg128", "tokens_per_second": 50, "spread": 0.02}]}' >speeds.json
echo '{"rows": 3}' >not_speeds.json
echo mine >there.html
ladder=(compare "$model" --text "$prose" --length 128 --max-chunks 2 --precisions w4a4kv4 "${quick[@]}" --prefix ids:8142,13,1)
refused "there.html: already exists" "${ladder[@]}" -o there.html
refused "is no directory" "${ladder[@]}" -o nowhere/ladder.html
refused "nowhere/figures: cannot be made" "${ladder[@]}" --svg nowhere/figures
refused "-o: the report's name is empty" "${ladder[@]}" -o ''
refused "not_speeds.json: holds no rows" "${ladder[@]}" --bench not_speeds.json
accepted "${ladder[@]}" --seeds 2 --bench speeds.json -o there.html --svg figures --force --json
for key in '"seeds":[{"seed":0,' '"perplexity_deviation":' '"tokens_per_second":50' '"bits_per_weight":16' '"report":"there.html"'; do
  grep -qF "$key" stdout.txt || complain "compare --seeds --json has no $key: $(cat stdout.txt)"
done
grep -q '<svg xmlns=' figures/steps-perplexity.svg || complain "compare --svg wrote no figure: $(ls figures)"
for part in 'id="steps-perplexity"' 'id="size"' 'id="speed"' '\begin{tabular}' 'standard deviation over 2 seeds'; do
  grep -qF -- "$part" there.html || complain "the page of compare has no $part"
done
accepted compare "$model" --precisions w4a4kv4 "${quick[@]}" --prefix ids:8142,13,1 "${tasks[@]}" -o tasks.html --json
! grep -q '"perplexity":\|"text":' stdout.txt && grep -q '"average_stderr":' stdout.txt || complain "compare of tasks alone: $(cat stdout.txt)"
for part in 'id="accuracy"' 'id="size-accuracy"' 'average accuracy on 5 tasks'; do
  grep -qF -- "$part" tasks.html || complain "the page of compare --tasks has no $part"
done
! grep -q 'perplexity' tasks.html || complain "a page without a text speaks of perplexity"
refused "give the text to evaluate on, or --tasks" compare "$model"
accepted compare "$model" --text "$prose" --length 128 --max-chunks 2 --ablate prefix --draws 1 "${quick[@]}" --prefix ids:1 -o ablated.html
grep -q 'without a prefix' ablated.html && ! grep -q 'first 0 of' ablated.html stdout.txt || complain "no prefix, said badly: $(grep -o '<p[^/]*/p>' ablated.html | head -1)"
refused "did you mean 'piqa'?" compare "$model" --text "$prose" --tasks piqqa --tasks-dir nowhere
# Runtime and reference choose alike.
accepted eval "$model" "${tasks[@]}" --json && grep -o '"tasks":.*"average"' stdout.txt | grep -o '"acc[a-z_]*":[0-9.]*' >runtime.txt
accepted eval "$model" "${tasks[@]}" --reference --json && grep -o '"tasks":.*"average"' stdout.txt | grep -o '"acc[a-z_]*":[0-9.]*' >reference.txt
checks=$((checks + 1))
[ -s runtime.txt ] && cmp -s runtime.txt reference.txt || complain "tasks of runtime and reference: $(cat runtime.txt reference.txt)"
accepted analyze "$model" --calibration "$prose" --set calibration.samples=4 --set calibration.length=128
grep -q "prefix: " stdout.txt || complain "analyze shows no prefix: $(cat stdout.txt)"
accepted analyze "$model" --calibration "$prose" --set calibration.samples=2 --set calibration.length=64 --blocks 1-2 --generate 1 -o analysis.html --svg figures --json
for key in '"conditions":[{"condition":"original"' '{"condition":"rotated"' '{"condition":"prefixed"' '"prefix_attention":[[' '"generated":{"sequences":1'; do
  grep -qF "$key" stdout.txt || complain "analyze --json has no $key: $(cut -c1-2000 stdout.txt)"
done
checks=$((checks + 1))
grep -q 'id="magnitudes-1-original"' analysis.html && ! grep -q 'id="magnitudes-0-original"' analysis.html && [ -f figures/maxima-down-input-prefixed.svg ] ||
  complain "analyze drew other blocks than were asked for"
refused "analysis.html: already exists" analyze "$model" --calibration "$prose" -o analysis.html
refused "outlier-counts.svg: already exists" analyze "$model" --calibration "$prose" --svg figures
refused "nowhere is no directory" analyze "$model" --calibration "$prose" -o nowhere/analysis.html
refused "the report's name is empty" analyze "$model" --calibration "$prose" -o ""
refused "the model has blocks 0 to 5" analyze "$model" --calibration "$prose" --blocks 3-6
refused "is no range of blocks" analyze "$model" --calibration "$prose" --blocks x
refused "too short to tell outliers" analyze "$model" --calibration "$prose" --set calibration.length=8
refused "too short to tell outliers" analyze "$model" --calibration short.txt

echo "$((checks - failures)) of $checks checks passed"
[ "$failures" -eq 0 ]
