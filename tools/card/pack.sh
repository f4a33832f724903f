#!/usr/bin/env bash
# Builds what tools/card/run.sh needs on a machine with a card, into one file that can be carried there beside the repository.
#
#   tools/card/pack.sh [DIR]             DIR/card.tar.xz: the release binary and the device's tests, with kernels [default:
#                                        target/card]
#   tools/card/pack.sh --emulate [DIR]   the same for an emulated card, unoptimised where that builds faster
#
# The build needs nvcc; where there is none, PyPI's is installed. GLIMMER_CUDA_ARCHS names the card; 90, a Hopper, where
# nothing is said.
set -euo pipefail
cd "$(dirname "$0")/../.."
# What may be carried together: the repository's files and this one.
MOST=$((60 * 1024 * 1024))

feature=cuda
if [[ ${1:-} == --emulate ]]; then
  feature=emulate
  shift
fi
target=${CARGO_TARGET_DIR:-target}
folder=${1:-$target/card}
export GLIMMER_CUDA_ARCHS=${GLIMMER_CUDA_ARCHS:-90}

packages=(glimmer-cuda glimmer-models) tests=(device fixtures invariance) also=()
if [[ $feature == cuda ]]; then
  source tools/card/nvcc.sh
  cargo build --locked --release -p glimmer-cli --features glimmer-cli/cuda
  built=$target/release/glimmer
else
  # A test of the binary has that built, with the same packages in one go.
  packages+=(glimmer-cli) also=(card)
  built=$target/debug/glimmer
fi
# Cargo tells where it put them. Several packages have tests of one name.
told=$(cargo test --locked --no-run "${packages[@]/#/--package=}" "${tests[@]/#/--test=}" "${also[@]/#/--test=}" \
  --features "$(printf "%s/$feature," "${packages[@]}")" --message-format json-render-diagnostics)

contents=$(mktemp -d)
trap 'rm -rf "$contents"' EXIT
cp "$built" "$contents/glimmer"
for name in "${tests[@]}"; do
  cp "$(sed -nE "s!.*crates/(cuda|models)#.*\"name\":\"$name\".*\"executable\":\"([^\"]*)\".*!\2!p" <<<"$told")" \
    "$contents/$name"
done
strip "$contents"/*
echo "$feature" >"$contents/feature"
(cd "$contents" && stat -c '%s %n' *)
rm -rf "$folder"
mkdir -p "$folder"
# A third less than gzip makes of it.
tar -C "$contents" -c . | xz -6 -T0 >"$folder/card.tar.xz"

bytes=$(stat -c %s "$folder/card.tar.xz")
tracked=$(git ls-files -z | xargs -0 stat -c %s -- | awk '{ sum += $1 } END { print sum }')
echo "$folder/card.tar.xz: $((bytes / 1024)) KiB, beside $((tracked / 1024)) KiB of the repository"
if ((bytes + tracked > MOST)); then
  echo "that is more than $((MOST / 1024)) KiB" >&2
  exit 1
fi
