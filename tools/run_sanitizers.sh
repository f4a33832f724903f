#!/usr/bin/env bash
# Runs the tests of the crates that hold `unsafe` under sanitizers, by hand: they need a nightly toolchain.
#
#   rustup toolchain install nightly --component rust-src --component miri
#   tools/run_sanitizers.sh [address] [thread] [miri]
#
# address  crates/cpu, crates/checkpoint and crates/tensor under AddressSanitizer: reads and writes outside a buffer.
# thread   crates/cpu under ThreadSanitizer: races in the thread pool. The standard library is rebuilt (rust-src), since
#          an uninstrumented one hides its synchronisation and every mutex would be reported.
# miri     the thread pool, and crates/tensor's block formats with a few random cases: undefined behaviour of any kind, on
#          portable code. Minutes, since Miri interprets.
# A tool that the toolchain lacks is named and counts as a failure. SIMD paths are covered where the machine has them.
set -euo pipefail
cd "$(dirname "$0")/.."
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}/sanitizers
host=$(rustc +nightly -vV | sed -n 's/^host: //p')

component() {
  rustup component list --toolchain nightly --installed | grep -q "^$1" || {
    echo "nightly lacks $1: rustup component add --toolchain nightly $1" >&2
    exit 1
  }
}

run_address() {
  RUSTFLAGS=-Zsanitizer=address PROPTEST_CASES=16 cargo +nightly test --target "$host" --lib --tests \
    -p glimmer-cpu -p glimmer-checkpoint -p glimmer-tensor
}

run_thread() {
  component rust-src
  RUSTFLAGS=-Zsanitizer=thread PROPTEST_CASES=16 TSAN_OPTIONS=halt_on_error=1 cargo +nightly test -Zbuild-std --target "$host" --lib --tests \
    -p glimmer-cpu
}

run_miri() {
  component miri
  component rust-src
  # Isolation off: the pool asks the system for its processors.
  export MIRIFLAGS=-Zmiri-disable-isolation PROPTEST_CASES=2
  cargo +nightly miri test -p glimmer-cpu --lib pool::
  cargo +nightly miri test -p glimmer-tensor --test quant_properties
}

for tool in "${@:-address thread miri}"; do
  for name in $tool; do
    echo "== $name"
    "run_$name"
  done
done
echo "no findings"
