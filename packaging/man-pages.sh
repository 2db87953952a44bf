#!/usr/bin/env bash
# man-pages.sh HELP2MAN PQ FOLDER: writes pq.1 and a page for each verb that PQ can run (pq-run.1, ...), from its own help.
set -euo pipefail
help2man=$1 pq=$2 folder=$3
mkdir -p "$folder"
version=$("$pq" --version | cut -d ' ' -f 2)

# page NAME SUMMARY HELP_OPTION
page() {
  "$help2man" --no-info --section 1 --manual 'PrefixQuant' --source "PrefixQuant $version" --name "$2" \
    --version-string "$1 $version" --help-option "$3" --output "$folder/$1.1" "$pq"
}

"$pq" help | sed -n '/^Verbs:/,/^$/s/^  \([a-z]*\)  *\(.*\)/\1\t\2/p' | while IFS=$'\t' read -r verb summary; do
  "$pq" "$verb" --help >/dev/null 2>&1 || continue # needs pq-lab, and there is none
  page "pq-$verb" "$summary" "$verb --help"
done
page pq 'quantize language models to 4 bits and run them' --help # last: the others are there when it is
