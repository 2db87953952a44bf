#!/usr/bin/env bash
# completion_shells.sh BIN: what zsh and fish list behind a line, with the completions that pq writes. Skipped without both.
set -u
bin=$(realpath "$1")
. "$(dirname "$0")/checks.sh"
export PATH=$bin:$PATH HOME=$work
cd "$work" || exit 1
shells=0

# expect SHELL LINE WORD..: completing LINE lists or inserts every WORD.
expect() {
  local shell=$1 line=$2 listed word
  listed=$("listed_by_$shell" "$line" "${@:3}" 2>&1)
  for word in "${@:3}"; do
    grep -q -F -- "$word" <<<"$listed" || complain "$shell: '$line' does not list '$word': $listed"
  done
}

listed_by_fish() { fish --no-config -c 'source pq.fish; complete -C$argv[1]' "$1"; }

# An interactive zsh on a terminal of its own, to which the line and two tabs are typed; until it has shown the words.
listed_by_zsh() {
  timeout 120 zsh -f -c '
    zmodload zsh/zpty
    zpty shell zsh -f -i
    zpty -w shell "PROMPT= RPROMPT=; fpath=($PWD \$fpath); autoload -Uz compinit; compinit -u -D; print R\"\"EADY"
    while zpty -r shell piece; do [[ $piece == *READY* ]] && break; done
    zpty -w -n shell "$1"$'"'\\t\\t'"'
    shown=
    for (( tenths = 0; tenths < 300; ++tenths )); do
      while zpty -r -t shell piece; do shown+=$piece; done
      missing=0
      for word in "${@:2}"; do [[ $shown == *"$word"* ]] || missing=1; done
      (( missing )) || break
      sleep 0.1
    done
    print -r -- $shown
    zpty -d shell' zsh "$@"
}

pq help --completion zsh >_pq || complain "pq help --completion zsh"
pq help --completion fish >pq.fish || complain "pq help --completion fish"
for shell in zsh fish; do
  command -v $shell >/dev/null || { echo "$shell is not installed: its completion is not tried"; continue; }
  shells=$((shells + 1))
  expect $shell 'pq qu' quantize
  expect $shell 'pq ' run chat quantize help
  expect $shell 'pq help ver' verify
  expect $shell 'pq --ver' --version
  expect $shell 'pq run --pro' --prompt --prompt-file
  expect $shell 'pq run --lm-head-bits ' 8 16
  expect $shell 'pq run --json --thr' --threads
  expect $shell 'pq run _' _pq
done
[ "$shells" -gt 0 ] || exit 77
[ "$failures" -eq 0 ]
