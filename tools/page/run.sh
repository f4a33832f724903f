#!/usr/bin/env bash
# The page in a browser. Usage: tools/page/run.sh [GLIMMER]
#
# Compares the vendored libraries with npm's packages, checks the types, and runs the tests in Chromium.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
ui=$root/crates/server/ui
target=$(realpath "${CARGO_TARGET_DIR:-$root/target}")
GLIMMER=$(realpath "${1:-$target/release/glimmer}")
export GLIMMER
place=$target/page

for name in node npm; do
  command -v "$name" >/dev/null || { echo "NOT TRIED: the page, for $name is not installed"; exit 0; }
done
mkdir -p "$place"
cmp -s "$ui/package-lock.json" "$place/installed.json" || {
  cp "$ui/package.json" "$ui/package-lock.json" "$place/"
  (cd "$place" && npm ci --silent --no-audit --no-fund)
  cp "$ui/package-lock.json" "$place/installed.json"
}
export NODE_MODULES=$place/node_modules
node "$here/vendor.mjs" --check "$NODE_MODULES"

# What the libraries' own files are blamed for is theirs.
"$NODE_MODULES/.bin/tsc" --project "$ui/tsconfig.json" --pretty false >"$place/types.log" || true
! grep -E '(^|/)ui/(words/)?[a-z-]+\.js\(|^error' "$place/types.log" || exit 1

CHROMIUM=${CHROMIUM:-$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)}
export CHROMIUM
[[ -n $CHROMIUM ]] || { echo "NOT TRIED: the page in a browser, for Chromium is not installed"; exit 0; }
# A script finds its packages beside itself.
cp "$here"/*.mjs "$place/"
export PAGE_UI=$ui
cd "$place"
node --test --test-reporter=spec --test-concurrency=1 ./*.test.mjs
