#!/usr/bin/env bash
# The tests of a binary whose names hold one of some words, each in a process of its own: after an illegal access a card
# refuses whatever the process asks for, and a test that hangs is ended alone. Ended by SIGTERM, it tells of those so far.
#
#   tools/card/each_test.sh SECONDS BINARY WORD...
set -uo pipefail
limit=$1 binary=$2
shift 2
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

one() { # LOGS SECONDS BINARY TEST
  local log=$1/${4//:/_}
  # In the foreground it belongs to whoever ends this script.
  timeout --foreground -k 5 "$2" "$3" --exact "$4" --show-output >"$log" 2>&1
  local code=$?
  ((code)) || { echo "$4" >>"$1/passed" && return; }
  echo "$4" >>"$1/failed"
  grep -aq "^test $4 \.\.\. FAILED" "$log" || printf 'test %s ... FAILED\nerror: ended with %d\n' "$4" "$code" >>"$log"
}
export -f one
names=$("$binary" --list --format terse "$@" | sed -n 's/: test$//p')
[[ -n $names ]] || { echo "error: $binary has no such test"; exit 1; }

tell() {
  local name passed failed
  while read -r name; do cat "$logs/${name//:/_}" 2>/dev/null; done <<<"$names"
  passed=$(cat "$logs/passed" 2>/dev/null | wc -l) failed=$(cat "$logs/failed" 2>/dev/null | wc -l)
  printf '\ntest result: altogether. %d passed; %d failed; %d not finished;\n' \
    "$passed" "$failed" $(($(wc -l <<<"$names") - passed - failed))
}
trap 'tell; exit 143' TERM
xargs -P 8 -n 1 bash -c 'one "$@"' one "$logs" "$limit" "$binary" <<<"$names"
tell
[[ ! -e $logs/failed ]]
