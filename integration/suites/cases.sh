# shellcheck shell=bash
# For the suites with real managers: what their cases are written with. Sourced; the suite sets $d, a
# directory of its own. A case is a function that runs with `set -e` in a shell of its own: its first
# failure ends it, and its last line of output is the reason. Exit status 77 means skipped.

fail() { echo "$*"; exit 1; }
skip() { echo "$*"; exit 77; }
is() { [ "$1" = "$2" ] || fail "expected $(printf %q "$2"), but got $(printf %q "$1")"; }
isnt() { [ "$1" != "$2" ] || fail "got $(printf %q "$1"), of all things"; }
# has TEXT PATTERN: an extended regular expression that matches a line
has() { grep -qE -- "$2" <<< "$1" || fail "no $2 in $(printf %q "$(tail -c 300 <<< "$1")")"; }
# exits STATUS COMMAND..., with its output in $d/out and $d/err
exits() {
  local rc=0 want=$1
  shift
  "$@" > "$d/out" 2> "$d/err" || rc=$?
  [ $rc = "$want" ] || fail "expected exit status $want, but got $rc: $(tail -n 1 "$d/err")"
}
# await WHAT COMMAND...: until COMMAND succeeds. A minute, as the machine may be busy: who waits that long has failed.
await() {
  local what=$1 end=$((SECONDS + 60))
  shift
  until "$@" > /dev/null 2>&1; do
    [ $SECONDS -lt $end ] || fail "never came: $what"
    sleep 0.1
  done
}
# equals VALUE COMMAND...: for await
equals() { [ "$("${@:2}")" = "$1" ]; }
