#!/usr/bin/env python3
"""Digests of every tensor of every fixture, as Python's safetensors and PyTorch read them.

    python tools/make_checkpoint_sums.py FIXTURES_DIR > crates/checkpoint/tests/data/fixture_sums.json

A model's digest is the CRC-32 of one line per tensor in order of names: `NAME DTYPE [SHAPE] CRC32-OF-BYTES`. The test
`fixtures` of the checkpoint crate writes the same lines from what it reads. Needs torch and safetensors.
"""

import json
import sys
import zlib
from pathlib import Path

import torch
from safetensors.torch import load_file

NAMES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
    torch.bool: "BOOL",
}


def raw(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


def digest(tensors):
    crc = count = size = 0
    for name in sorted(tensors):
        tensor = tensors[name]
        data = raw(tensor)
        line = f"{name} {NAMES[tensor.dtype]} {list(tensor.shape)} {zlib.crc32(data):08x}\n"
        crc = zlib.crc32(line.encode(), crc)
        count += 1
        size += len(data)
    return {"tensors": count, "bytes": size, "digest": f"{crc:08x}"}


def load(files):
    tensors = {}
    for file in files:
        part = load_file(file) if file.suffix == ".safetensors" else torch.load(file, map_location="cpu", weights_only=True)
        assert not tensors.keys() & part.keys()
        tensors.update(part)
    return tensors


def main(root):
    sums = {}
    for directory in sorted(p for p in root.iterdir() if p.is_dir()):
        weights = sorted(directory.glob("model*.safetensors")) or sorted(directory.glob("pytorch_model*.bin"))
        if weights:
            sums[directory.name] = digest(load(weights))
        for single in sorted(directory.glob("*.safetensors")):
            if single not in weights:
                sums[f"{directory.name}/{single.name}"] = digest(load([single]))
    json.dump(sums, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
