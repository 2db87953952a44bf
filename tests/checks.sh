# Sourced by the tests that are shell scripts: a temporary directory to work in, gone at the end, and the count of what was checked.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0
checks=0

complain() {
  echo "FAILED: $*"
  failures=$((failures + 1))
}
