#!/usr/bin/env bash
# tools/card/run.sh on an emulated card: everything once, and then steps in which that card is lost, which must be named with
# the kernel and keep no other step from being done.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
target=${CARGO_TARGET_DIR:-target}
"$here/pack.sh" --emulate "$target/card-emulated"
out=$target/card-dry-run
run=("$here/run.sh" --dry-run --bin "$target/card-emulated" --out "$out")

wrong() { echo "$1"; cat "$out/report.md"; exit 1; }
# How the steps went, but for one that needs PyTorch, which is not always there.
went() { sed -n 's/^## \(.*\): \(.*\)$/\1 \2/p' "$out/report.md" | grep -vE '^transformers (ok|not tried)$'; }

"${run[@]}" || wrong "a step on the emulated card fails"
expected=$(printf '%s ok\n' suite fixtures limits model-Q4_K_M decode-Q4_K_M prompt-Q4_K_M clients invariance \
  {model,decode,prompt}-Q8_0 {model,decode,prompt}-F16)
[[ $(went) == "$expected" ]] || wrong "expected: $expected"
python3 - "$out/report.json" <<'END'
import json, sys

report = json.load(open(sys.argv[1]))
steps = {step["name"]: step for step in report["steps"]}
assert report["failures"] == 0, report
for name, least in (("suite", 15), ("fixtures", 15), ("invariance", 3)):
    figures = steps[name]["figures"]
    assert figures["passed"] >= least and figures["failed"] == 0, steps[name]
for kind in ("Q4_K_M", "Q8_0", "F16"):
    decode = steps[f"decode-{kind}"]["figures"]
    assert [row["test"] for row in decode["results"]] == ["tg2", "tg2 x3"], decode
    assert decode["memory"]["weights_bytes"] > 0, decode
    assert steps[f"prompt-{kind}"]["figures"]["limits"]["bf16_gflop_s"] > 0, kind
assert steps["clients"]["figures"]["clients"] == 3, steps["clients"]
END

# A test, and a measurement.
for broken in suite decode-Q4_K_M; do
  if CARD_BREAK=$broken "${run[@]}" model-Q4_K_M "$broken" limits; then wrong "that $broken fails is not told"; fi
  [[ $(went | sort) == "$(printf '%s\n' "$broken failed" 'limits ok' 'model-Q4_K_M ok' | sort)" ]] \
    || wrong "$broken alone was to fail"
  kernel=$(sed -n 's/^kernel `\([a-z0-9_]*\)`$/\1/p' "$out/report.md")
  [[ -n $kernel ]] || wrong "no kernel is named"
  for file in report.json log.txt; do grep -q "$kernel" "$out/$file" || wrong "$file does not name it"; done
done
