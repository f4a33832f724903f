#!/usr/bin/env bash
# Builds what tools/card/run.sh needs on a machine with a card, into one folder that can be carried there.
#
#   tools/card/pack.sh [DIR]             the release binary and the device's tests, with kernels [default: target/card]
#   tools/card/pack.sh --emulate [DIR]   the same for an emulated card, unoptimised where that builds faster
#
# The build needs nvcc as README.md says. GLIMMER_CUDA_ARCHS names the card; 90, a Hopper, where nothing is said.
set -euo pipefail
cd "$(dirname "$0")/../.."
# The folder and this repository are carried together.
MOST=$((60 * 1024 * 1024))

feature=cuda profile=(--release)
if [[ ${1:-} == --emulate ]]; then
  feature=emulate profile=()
  shift
fi
target=${CARGO_TARGET_DIR:-target}
folder=${1:-$target/card}
export GLIMMER_CUDA_ARCHS=${GLIMMER_CUDA_ARCHS:-90}

rm -rf "$folder"
mkdir -p "$folder"
cargo build --locked "${profile[@]}" -p glimmer-cli --features "glimmer-cli/$feature"
built=debug
[[ ${#profile[@]} -eq 0 ]] || built=release
cp "$target/$built/glimmer" "$folder/glimmer"

# Cargo tells where it put them: "Executable tests/device.rs (target/debug/deps/device-0123)".
told=$(mktemp)
trap 'rm -f "$told"' EXIT
tests=(device fixtures invariance)
cargo test --locked --no-run -p glimmer-cuda -p glimmer-models --features "glimmer-cuda/$feature,glimmer-models/$feature" \
  "${tests[@]/#/--test=}" 2>&1 | tee "$told"
for name in "${tests[@]}"; do
  cp "$(sed -n "s|.*Executable tests/$name\.rs (\(.*\))|\1|p" "$told")" "$folder/$name"
done
strip "$folder"/*
echo "$feature" >"$folder/feature"

bytes=$(du -sb "$folder" | cut -f1)
tracked=$(git ls-files -z | xargs -0 stat -c %s -- | awk '{ sum += $1 } END { print sum }')
echo "$folder: $((bytes / 1024)) KiB, beside $((tracked / 1024)) KiB of the repository"
if [[ $feature == cuda ]] && ((bytes + tracked > MOST)); then
  echo "that is more than $((MOST / 1024)) KiB" >&2
  exit 1
fi
