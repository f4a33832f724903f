#!/usr/bin/env bash
# xllamacpp 2026.10.11549, the llama.cpp that Xinference installs: its wheel for x86-64 holds one build of the processor's
# kernels, for AVX2, and none for AVX-512, VNNI or BF16. On a processor that has them, llama.cpp's own system line names AVX2 at
# most.
#
# Expected before: that a wheel for every x86-64 brings a library for each instruction set and takes the best one when it is
# loaded, as llama.cpp's own releases do. Who compares speeds with Xinference's engine compares with AVX2.
set -euo pipefail
grep -qw avx512f /proc/cpuinfo || { echo "NOT TRIED: this processor has no AVX-512 to be left out"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --no-deps xllamacpp==2026.10.11549
"$folder/venv/bin/python" - <<'P'
import importlib.metadata
import pathlib

import xllamacpp

info = xllamacpp.get_system_info()
libraries = [path.name for path in pathlib.Path(xllamacpp.__file__).parent.rglob("*.so")]
print("xllamacpp", importlib.metadata.version("xllamacpp"))
print("libraries:", libraries)
print("system:", info)
assert len(libraries) == 1, libraries
assert "AVX2 = 1" in info and "AVX512" not in info and "VNNI" not in info, info
P
