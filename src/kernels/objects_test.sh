#!/usr/bin/env bash
# objects_test.sh OBJDUMP NM NAMESPACE OBJECT...: what a kernel table's object files hold. Each instruction set's
# instructions stand in its own objects and in no lesser one's, and no symbol that the linker may merge (an inline
# function, a template) lies outside its own namespace: else a copy compiled for one processor would run on another.
set -euo pipefail

objdump=$1 nm=$2 namespace=$3
shift 3
code=$(mktemp)
trap 'rm -f "$code"' EXIT
"$objdump" -d --no-show-raw-insn "$@" >"$code"
status=0

must() { # must yes|no PATTERN
  local found=no
  if grep -qE "$2" "$code"; then found=yes; fi
  if [ "$found" != "$1" ]; then
    echo "$namespace: instructions like $2: $found, must be $1"
    status=1
  fi
}

wide='%zmm' middle='%ymm' vnni='\<vpdpbusd\>' fma='\<vfn?m(add|sub)' bf16='\<vdpbf16ps\>' tiles='\<tdpb' sdot='\<sdot\>'
case $(grep -m 1 -o 'file format .*' "$code") in
  *x86-64)
    case $namespace in
      scalar) yes=() no=("$wide" "$middle" "$vnni" "$fma" "$tiles") ;;
      avx2) yes=("$middle" "$fma") no=("$wide" "$vnni" "$tiles") ;;
      avx2_vnni) yes=("$middle" "$fma" "$vnni") no=("$wide" "$tiles") ;;
      avx512) yes=("$wide" "$fma" "$vnni") no=("$tiles") ;;
      avx512_bf16) yes=("$wide" "$fma" "$vnni" "$bf16") no=("$tiles") ;;
      amx) yes=("$wide" "$fma" "$vnni" "$tiles") no=() ;;
      *) echo "$namespace: this test does not know it" && exit 1 ;;
    esac
    ;;
  *aarch64)
    case $namespace in
      scalar) yes=() no=("$sdot") ;;
      neon) yes=("$sdot") no=() ;;
      *) echo "$namespace: this test does not know it" && exit 1 ;;
    esac
    ;;
  *) echo "$namespace: this test does not know the objects' format" && exit 1 ;;
esac
for pattern in "${yes[@]}"; do must yes "$pattern"; done
for pattern in "${no[@]}"; do must no "$pattern"; done

if [ "$namespace" != scalar ]; then
  # DW.ref.*: how exception tables name the personality routine.
  strangers=$("$nm" "$@" | awk '$2 ~ /^[WVu]$/ { print $3 }' | grep -vE "2pq7kernels${#namespace}${namespace}|^DW\.ref\." || true)
  if [ -n "$strangers" ]; then
    echo "$namespace: symbols that the linker may merge with another object's:"
    echo "$strangers"
    status=1
  fi
fi
exit "$status"
