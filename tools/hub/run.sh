#!/usr/bin/env bash
# The hubs' own tools and `glimmer pull` in the same caches, against the stand-in of the hubs. Usage: tools/hub/run.sh [GLIMMER]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
glimmer=${1:-$target/release/glimmer}
place=$target/clients
mkdir -p "$place"

command -v python3 >/dev/null || { echo "NOT TRIED, no python3: huggingface_hub, modelscope"; exit 0; }
cmp -s "$here/requirements.txt" "$place/hub-requirements.txt" || {
  python3 -m venv --clear "$place/hub-python"
  "$place/hub-python/bin/pip" --quiet --disable-pip-version-check install -r "$here/requirements.txt"
  cp "$here/requirements.txt" "$place/hub-requirements.txt"
}
cargo build --quiet --locked --manifest-path "$root/Cargo.toml" -p glimmer-hub --example stand_in
"$place/hub-python/bin/python" "$here/share_caches.py" "$glimmer" "$target/debug/examples/stand_in" "$root/fixtures"
