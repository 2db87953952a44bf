#!/usr/bin/env bash
# packaging.sh BUILD REPOSITORY: installs a build, and a Debian package of it, each in a clean root, and runs what lies there.
set -u
build=$1 repository=$2
. "$(dirname "$0")/checks.sh"
folder=$work
command -v dpkg-shlibdeps >/dev/null || { echo "dpkg-dev is not installed"; exit 77; }

# Looks at the root $1, which holds an installed pq.
look_at() {
  local root=$1 usr=$1/usr
  [ "$("$usr/bin/pq" --version)" = "$("$build/bin/pq" --version)" ] || complain "$root: pq --version"
  [ "$("$usr/bin/pq" run "$repository/examples/sample-model" -p Once -n 3 -q)" != "" ] || complain "$root: pq run"
  [ ! -x "$build/bin/pq-lab" ] || [ -x "$usr/bin/pq-lab" ] || complain "$root: pq-lab is not beside pq"
  [ ! -e "$usr/include" ] && [ ! -e "$usr/lib" ] || complain "$root: holds headers or libraries"
  bash -n "$usr/share/bash-completion/completions/pq" || complain "$root: the bash completion"
  grep -q -- --prompt-file "$usr/share/zsh/vendor-completions/_pq" || complain "$root: the zsh completion"
  grep -q -- '-l prompt-file' "$usr/share/fish/vendor_completions.d/pq.fish" || complain "$root: the fish completion"
  if command -v help2man >/dev/null; then
    zcat -f "$usr"/share/man/man1/pq-run.1* | grep -q 'pq-run' || complain "$root: the man page"
  fi
}

DESTDIR=$folder/tree cmake --install "$build" --prefix /usr >"$folder/log" 2>&1 || complain "cmake --install: $(tail -n 3 "$folder/log")"
look_at "$folder/tree"

cpack --config "$build/CPackConfig.cmake" -G DEB -B "$folder/deb" >"$folder/log" 2>&1 || complain "cpack: $(tail -n 3 "$folder/log")"
package=$(ls "$folder"/deb/*.deb)
dpkg-deb --field "$package" Depends | grep -q libpcre2-8-0 || complain "the package does not depend on the libraries it needs"
mkdir -p "$folder/root/var/lib/dpkg/info" "$folder/root/var/lib/dpkg/updates"
touch "$folder/root/var/lib/dpkg/status"
dpkg --root="$folder/root" --force-not-root --force-depends --log=/dev/null --install "$package" >"$folder/log" 2>&1 ||
  complain "dpkg --install: $(tail -n 3 "$folder/log")"
look_at "$folder/root"
[ "$failures" -eq 0 ]
