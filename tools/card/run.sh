#!/usr/bin/env bash
# Everything about Glimmer that only an NVIDIA card can show, in eight minutes at most: the device's tests, the card's
# limits, speed and memory of glm-4-9b-chat's shape. Goes on after a failure and says what failed, in which test and in
# which kernel.
#
#   tools/card/run.sh [--quick] [--dry-run] [--bin DIR] [--out DIR] [STEP...]
#
#   --quick     the tests and one type of weights, in three minutes
#   --dry-run   the same path on an emulated card, with models of a few thousand weights
#   --bin DIR   where tools/card/pack.sh put card.tar.xz [default: target/card]
#   --out DIR   where report.md, report.json and log.txt go [default: target/card-report]
#   STEP...     only these
#
# Needs the repository, DIR, a driver, bash and coreutils; python3 for the clients, PyTorch and transformers in it for
# their figures beside ours. Exit status 1 says that a step failed.
set -uo pipefail
# Everything in it is bytes to the tools that cut it.
export LC_ALL=C
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
bin=$target/card out=$target/card-report quick= dry=
only=()
while (($#)); do
  case $1 in
    --quick) quick=1 ;;
    --dry-run) dry=1 ;;
    --bin) bin=$2 && shift ;;
    --out) out=$2 && shift ;;
    -*) echo "error: $1 is no flag" >&2 && exit 2 ;;
    *) only+=("$1") ;;
  esac
  shift
done
refuse() { echo "error: $1" >&2; exit "$2"; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Where there is no xz, Python has one.
unpack='import sys, tarfile; tarfile.open(sys.argv[1]).extractall(sys.argv[2])'
tar -C "$work" -xJf "$bin/card.tar.xz" 2>/dev/null || python3 -c "$unpack" "$bin/card.tar.xz" "$work" 2>/dev/null ||
  refuse "$bin holds no card.tar.xz as tools/card/pack.sh makes it" 2
bin=$work
feature=$(cat "$bin/feature")
[[ -z $dry || $feature == emulate ]] || refuse "--dry-run wants what pack.sh --emulate made" 2
# Without a driver or a card nothing is to be learned here. What else fails is the steps' business.
said=$(timeout 60 "$bin/glimmer" run demo 3+4 --device cuda --max-tokens 1 --quiet 2>&1 >/dev/null)
[[ $said != *"no NVIDIA card can be used"* ]] || refuse "${said#error: }" 1
mkdir -p "$out"
out=$(cd "$out" && pwd)
: >"$out/log.txt"

# Seconds that all steps may take together.
whole=470
[[ -z $quick ]] || whole=170
# Nothing is to be learned of time where a card is emulated, beside other work perhaps.
[[ -z $dry ]] || whole=3000
# The tests look for their files from here.
export CARGO_MANIFEST_DIR=$root/crates/models RUST_BACKTRACE=0

names=() failures=0

# ---- text ----

# A JSON string, of printable ASCII.
quote() { printf '"%s"' "$(printf '%s' "$1" | tr '\t\n' '  ' | tr -cd '\40-\176' | sed 's/\\/\\\\/g; s/"/\\"/g')"; }

# The first line that says what went wrong, at most 300 characters of it.
complaint() {
  grep -ahm1 -A1 -e '^error' -e "^thread '.*panicked at" -e '^not tried' -e '^skipped' -e 'Error:' "$1" \
    | sed "s/^thread '.*panicked at.*//; /^--$/d; /^$/d" | head -n 1 | cut -c -300
}

# The kernel that a log names: by an error of the device, else the last ones before a test found wrong numbers.
kernel() {
  local named
  named=$(sed -n 's/.*kernel \([a-z0-9_]*\): .*/\1/p' "$1" | head -n 1)
  [[ -n $named ]] || named=$(sed -n "/panicked at/q; s/^kernels: //p" "$1" | tail -n 1)
  printf '%s' "$named"
}

# ---- figures: JSON of a step's output, and lines for people ----

figures_none() { :; }

# What each_test.sh counts.
figures_tests() {
  local counts='^test result: altogether\. \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) not finished;$'
  sed -n "s/$counts/{\"passed\": \1, \"failed\": \2, \"not_finished\": \3}/p" "$1" >"$2.json"
  sed -n "s/$counts/\1 tests passed, \2 failed, \3 not finished/p" "$1" >"$2.md"
}

# The report of `glimmer bench` as it is, and its most important lines.
figures_bench() {
  cp "$1" "$2.json"
  awk -F': ' '
    function value() { gsub(/[",]/, "", $2); return $2 }
    /"(read_gb_s|copy_gb_s|int8_gop_s|f32_gflop_s|bf16_gflop_s)"/ { gsub(/[ "]/, "", $1); printf "%s %.0f; ", $1, value() }
    /"best_s"/ { printf "first token after %.2f s; ", value() }
    /"weights_bytes"/ { printf "weights %.0f MB, ", value() / 1e6 }
    /"kv_bytes"/ { printf "cache %.0f MB, ", value() / 1e6 }
    /"buffers_bytes"/ { printf "buffers %.0f MB\n\n| test | t/s | best | floor | of floor | bound by |\n|---|--:|--:|--:|--:|---|\n", value() / 1e6 }
    /"test"/ { test = value() }
    /"avg_ts"/ { mean = value() }
    /"best_ts"/ { best = value() }
    /"floor_ts"/ { floor = value() }
    /"percent_of_floor"/ { percent = value() }
    /"bound"/ { printf "| %s | %.1f | %.1f | %.1f | %.1f%% | %s |\n", test, mean, best, floor, percent, value() }' "$1" >"$2.md"
}

# The last line of tools/load.py's table, and the card's memory.
figures_load() {
  awk '
    $1 + 0 > 0 && NF == 6 { line = sprintf("\"clients\": %d, \"tokens_s\": %s, \"first_token_p50_s\": %s, \"first_token_p95_s\": %s, \"between_p50_ms\": %s, \"between_p95_ms\": %s", $1, $2, $3, $4, $5, $6) }
    $2 == "MiB" { line = line ", \"memory_used_mib\": " $1 }
    END { if (line) print "{" line "}" }' "$1" >"$2.json"
  awk '
    $1 + 0 > 0 && NF == 6 { printf "%d clients: %s tokens/s, first token after %s s (p95 %s), between tokens %s ms (p95 %s)\n", $1, $2, $3, $4, $5, $6 }
    $2 == "MiB" { printf "memory in use: %s MiB\n", $1 }' "$1" >"$2.md"
}

# Objects, one a line.
figures_lines() {
  awk '/^{/ { all = all (all ? ", " : "") $0 } END { if (all) print "[" all "]" }' "$1" >"$2.json"
  sed -n 's/^{\(.*\)}$/- \1/p' "$1" | tr -d '"' >"$2.md"
}

# ---- steps ----

wanted() {
  local name
  ((${#only[@]})) || return 0
  for name in "${only[@]}"; do [[ $1 != "$name" ]] || return 0; done
  return 1
}

# The kernel that fails, by doing it again and watching, where there is time; the log of that goes to WATCHED.
watch() { # WATCHED COMMAND...
  local watched=$1 left=$((whole - SECONDS))
  shift
  ((left >= 5)) || return
  GLIMMER_CUDA_WATCH=1 timeout -k 5 $((left < 30 ? left : 30)) "$@" >"$watched" 2>&1 </dev/null
  kernel "$watched"
}

# step NAME SECONDS FIGURES COMMAND...: runs it, notes how it went and what it measured, and writes the reports anew.
step() {
  local name=$1 limit=$2 figures=$3 log=$work/$1 left code begun result=ok test= named= message=
  shift 3
  wanted "$name" || return 0
  names+=("$name")
  left=$((whole - SECONDS))
  [[ -z $dry ]] || limit=$((10 * limit))
  ((limit <= left)) || limit=$left
  begun=$(date +%s.%N)
  if ((limit < 5)); then
    result="not tried" message="no time was left"
  else
    printf '== %s\n' "$name"
    # An emulated card is lost after so many kernels.
    [[ ${CARD_BREAK:-} != "$name" ]] || export GLIMMER_EMULATED_KERNELS=30
    timeout -k 5 "$limit" "$@" >"$log.out" 2>"$log.err" </dev/null
    code=$?
    cat "$log.out" "$log.err" >"$log.log"
    # A test that finds no card passes by doing nothing.
    ((code)) || [[ $figures != tests ]] || ! grep -aq '^skipped: ' "$log.log" || code=1
    # Lines and counts of tests stand also where something failed or time was up.
    ((code)) && [[ $figures != @(lines|tests) ]] || "figures_$figures" "$log.out" "$log"
    case $code in
      0) ;;
      77) result="not tried" message=$(complaint "$log.log") ;;
      *)
        result="failed" message=$(complaint "$log.log") named=$(kernel "$log.log")
        [[ $code != @(124|137) ]] || message="took more than $limit s${message:+; $message}"
        if [[ $figures == tests ]]; then
          test=$(sed -n 's/^test \([^ ]*\) \.\.\. FAILED$/\1/p' "$log.log" | head -n 1)
          [[ -z $test ]] || named=$(watch "$log.log.watched" "$3" --exact "$test")
        elif [[ -z $named ]] && grep -aq GLIMMER_CUDA_WATCH "$log.log"; then
          named=$(watch "$log.log.watched" "$@")
        fi
        [[ -n $message ]] || message="ended with $code"
        ;;
    esac
    unset GLIMMER_EMULATED_KERNELS
    { printf '\n==== %s: %s\n' "$name" "$*"; cat "$log.log"; [[ ! -e $log.log.watched ]] || { echo "---- watched"; tail -c 20000 "$log.log.watched"; }; } >>"$out/log.txt"
  fi
  [[ $result != failed ]] || ((++failures))
  {
    printf '{"name": "%s", "result": "%s", "seconds": %s' "$name" "$result" "$(awk -v from="$begun" -v to="$(date +%s.%N)" 'BEGIN { printf "%.2f", to - from }')"
    [[ -z $test ]] || printf ', "test": %s' "$(quote "$test")"
    [[ -z $named ]] || printf ', "kernel": %s' "$(quote "$named")"
    [[ -z $message ]] || printf ', "message": %s' "$(quote "$message")"
    [[ ! -s $log.json ]] || printf ', "figures": %s' "$(cat "$log.json")"
    printf '}'
  } >"$log.entry"
  {
    printf '\n## %s: %s\n\n' "$name" "$result"
    [[ -z $test ]] || printf 'test `%s`\n' "$test"
    [[ -z $named ]] || printf 'kernel `%s`\n' "$named"
    [[ -z $message ]] || printf '%s\n' "$message"
    [[ ! -s $log.md ]] || cat "$log.md"
  } >"$log.part"
  sed -n '2p; 4,5p' "$log.part"
  report
}

# A machine may be taken away at any time: what is known so far is always in the files.
report() {
  local name sep=
  {
    printf '{"version": %s, "card": %s, "dry_run": %s, "quick": %s, "seconds": %d, "failures": %d, "steps": [' \
      "$(quote "$version")" "$(quote "$card")" "$([[ $dry ]] && echo true || echo false)" "$([[ $quick ]] && echo true || echo false)" "$SECONDS" "$failures"
    for name in "${names[@]}"; do
      printf '%s\n%s' "$sep" "$(cat "$work/$name.entry")"
      sep=,
    done
    printf '\n]}\n'
  } >"$work/report.json" && mv "$work/report.json" "$out/report.json"
  {
    printf '# Glimmer on a card\n\n%s, %s; %d s, %d of %d steps failed\n' "$version" "$card" "$SECONDS" "$failures" "${#names[@]}"
    for name in "${names[@]}"; do cat "$work/$name.part"; done
  } >"$work/report.md" && mv "$work/report.md" "$out/report.md"
}

# ---- what is done ----

version=$("$bin/glimmer" --version 2>&1 | head -n 1)
card="an emulated card"
if [[ $feature == cuda ]]; then
  card=$(nvidia-smi --query-gpu=name,memory.total,driver_version,compute_cap --format=csv,noheader 2>/dev/null | head -n 1)
  [[ -n $card ]] || card="a card without nvidia-smi"
fi

glimmer=$bin/glimmer
bench() { # MODEL FLAGS...
  printf '%s\n' "$glimmer" bench "$@" --device cuda --output json
}

# A model of random weights in a published shape; on an emulated card a fixture.
make_model() { # TYPE
  if [[ -n $dry ]]; then
    printf '%s\n' "$glimmer" convert "$root/fixtures/glm-edge-k256" "$work/$1.gguf" --type "$1" -q
  else
    printf '%s\n' "$glimmer" synth glm-4-9b-chat --type "$1" -o "$work/$1.gguf"
  fi
}

# Few of everything where it is emulated.
parallel=1,8,64 prompts=512,2048 tokens=64 rounds=2 served=$work/Q4_K_M.gguf load=(64 128 64)
if [[ -n $dry ]]; then
  # A server wants a vocabulary, which that fixture has.
  parallel=1,3 prompts=5,9 tokens=2 rounds=1 served=$root/fixtures/lm-eval load=(3 6 3)
elif [[ -n $quick ]]; then
  prompts=512
fi
alone=40
[[ -z $dry ]] || alone=600

step suite 90 tests "$here/each_test.sh" "$alone" "$bin/device"
step fixtures 60 tests "$here/each_test.sh" "$alone" "$bin/fixtures" cuda
mapfile -t command < <(bench "$root/fixtures/glm-edge-k256" -p 8 -n 2 -r 1)
step limits 30 bench "${command[@]}"
types=(Q4_K_M Q8_0 F16)
[[ -z $quick ]] || types=(Q4_K_M)
for type in "${types[@]}"; do
  mapfile -t command < <(make_model "$type")
  step "model-$type" 60 none "${command[@]}"
  mapfile -t command < <(bench "$work/$type.gguf" -p 0 -n "$tokens" --parallel "$parallel" -r "$rounds")
  step "decode-$type" 60 bench "${command[@]}"
  mapfile -t command < <(bench "$work/$type.gguf" -p "$prompts" -n 0 -r "$rounds")
  step "prompt-$type" 45 bench "${command[@]}"
  if [[ $type == Q4_K_M ]]; then
    [[ -n $quick ]] || step clients 60 load "$here/clients.sh" "$glimmer" "$served" "${load[@]}"
    step invariance 75 tests "$here/each_test.sh" "$alone" "$bin/invariance" cuda
    tiny=()
    [[ -z $dry ]] || tiny=(--tiny --parallel 1 --tokens 2)
    [[ -n $quick ]] || step transformers 120 lines python3 "$here/transformers_decode.py" \
      "$root/fixtures/glm-4-9b-chat-hf/config.json" "${tiny[@]}"
  fi
  rm -f "$work/$type.gguf"
done

printf '\n%d s, %d of %d steps failed; %s/report.md\n' "$SECONDS" "$failures" "${#names[@]}" "$out"
((failures == 0))
