#!/usr/bin/env bash
# tools/card/run.sh on an emulated card: as it is, and with a step that breaks, which must be named and keep no other one
# from being done.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
target=${CARGO_TARGET_DIR:-target}
"$here/pack.sh" --emulate "$target/card-emulated"
run=("$here/run.sh" --dry-run --bin "$target/card-emulated" --out "$target/card-dry-run")

broken() { echo "$1"; cat "$target/card-dry-run/report.md"; exit 1; }
"${run[@]}" limits || broken "a step on the emulated card fails"
if CARD_BREAK=limits "${run[@]}"; then broken "a broken step is not told"; fi
for file in report.md report.json log.txt; do
  grep -q broken_on_purpose "$target/card-dry-run/$file" || broken "$file does not name the kernel that failed"
done
found=$(sed -n 's/^## \(.*\): \(.*\)$/\1 \2/p' "$target/card-dry-run/report.md")
tried=$(grep -v '^transformers ' <<<"$found")
expected=$(printf '%s\n' 'suite ok' 'fixtures ok' 'limits failed' \
  'model-Q4_K_M ok' 'decode-Q4_K_M ok' 'prompt-Q4_K_M ok' 'clients ok' 'invariance ok' \
  'model-Q8_0 ok' 'decode-Q8_0 ok' 'prompt-Q8_0 ok' 'model-F16 ok' 'decode-F16 ok' 'prompt-F16 ok')
[[ $tried == "$expected" ]] || broken "expected: $expected"
# PyTorch is not always there.
grep -Eq '^transformers (ok|not tried)$' <<<"$found" || broken "transformers were neither tried nor left out"
python3 - "$target/card-dry-run/report.json" <<'END'
import json, sys

report = json.load(open(sys.argv[1]))
steps = {step["name"]: step for step in report["steps"]}
assert report["failures"] == 1 and steps["limits"]["kernel"] == "broken_on_purpose", report
assert steps["suite"]["figures"] == {"passed": 2, "failed": 0}, steps["suite"]
for kind in ("Q4_K_M", "Q8_0", "F16"):
    tests = [row["test"] for row in steps[f"decode-{kind}"]["figures"]["results"]]
    assert tests == ["tg2", "tg2 x3"], tests
    assert steps[f"prompt-{kind}"]["figures"]["limits"]["bf16_gflop_s"] > 0, kind
assert steps["clients"]["figures"]["clients"] == 3, steps["clients"]
END
