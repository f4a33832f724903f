#!/usr/bin/env python3
"""Makes crates/tensor/tests/data/quant_golden.bin: block formats as ggml and gguf-py read and write them.

    pip install numpy==2.4.6 gguf==0.19.0 llama-cpp-python==0.3.36
    python tools/make_quant_golden.py

Encoded by ggml's C library (0.25.3, which llama-cpp-python brings) and compared with gguf-py where it has an encoder;
decoded by both, which must agree.

Layout, all little-endian:
    u32 number of inputs; each: name [16 bytes, zero padded], u32 n, f32 [n]
    u32 number of records; each: type [8], input [16] or "random", u32 number of bytes, the bytes, u32 n,
        then for "random" the decoded f32 [n], else the FNV-1a 64-bit hash of the decoded bytes
"""

import argparse
import ctypes
import os
import struct

import gguf
import numpy as np

TYPES = "F16 BF16 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS".split()
SCALES = {  # offsets of the binary16 fields of a block
    "Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q2_K": [80, 82], "Q3_K": [108],
    "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "IQ4_NL": [0], "IQ4_XS": [0],
}  # fmt: skip


def load_ggml():
    import llama_cpp

    return ctypes.CDLL(os.path.join(os.path.dirname(llama_cpp.__file__), "lib", "libggml-base.so"))


def pointer(array):
    return array.ctypes.data_as(ctypes.c_void_p)


def encode(ggml, name, values):
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    out = np.zeros(values.size // block * size, np.uint8)
    n = ctypes.c_int64(values.size)
    if name == "F16":
        ggml.ggml_fp32_to_fp16_row(pointer(values), pointer(out), n)
    elif name == "BF16":
        ggml.ggml_fp32_to_bf16_row_ref(pointer(values), pointer(out), n)
    elif name.startswith("IQ4"):
        getattr(ggml, f"quantize_{name.lower()}")(pointer(values), pointer(out), ctypes.c_int64(1), n, None)
    else:
        getattr(ggml, f"quantize_row_{name.replace('Q', 'q')}_ref")(pointer(values), pointer(out), n)
    return out


def decode(ggml, name, data):
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    out = np.zeros(data.size // size * block, np.float32)
    n = ctypes.c_int64(out.size)
    if name == "F16":
        ggml.ggml_fp16_to_fp32_row(pointer(data), pointer(out), n)
    elif name == "BF16":
        ggml.ggml_bf16_to_fp32_row(pointer(data), pointer(out), n)
    else:
        function = name.lower() if name.startswith("IQ4") else name.replace("Q", "q")
        getattr(ggml, f"dequantize_row_{function}")(pointer(data), pointer(out), n)
    return out


def make_inputs(rng):
    def normal(scale, n=256):
        return rng.normal(0, scale, n)

    one = normal(0.01)
    one[77] = 30.0
    spread = normal(1.0) * np.repeat(10.0 ** rng.integers(-6, 2, 16), 16)
    gaps = normal(0.05)
    gaps[:48] = 0
    gaps[100:104] = 0
    gaps[192:224] = 0.25
    ladder = np.arange(256) % 32
    inputs = {
        "normal": normal(0.02, 512),
        "normal large": normal(300.0),
        "heavy tails": rng.standard_t(2, 512) * 0.01,
        "uniform": rng.uniform(-1, 1, 256),
        "positive": rng.uniform(0.1, 0.2, 256),
        "negative": -rng.uniform(0.0, 3.0, 256),
        "zeros": np.zeros(256),
        "constant": np.full(256, 0.37),
        "constant neg": np.full(256, -0.37),
        "outlier": one,
        "spread": spread,
        "gaps": gaps,
        "half steps": (ladder - 16) / 2 * 0.125,
        "whole steps": ladder * 1.0,
        "alternating": np.where(np.arange(256) % 2 == 0, 1.0, -1.0),
        "near constant": -100 + normal(1e-5),
        "f16 denormal": normal(1e-6),
        "vanishing": normal(1e-12),
        "below eps": normal(1e-17),
    }
    return {name: values.astype(np.float32) for name, values in inputs.items()}


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return value


def random_blocks(rng, name, values):
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[name]]
    data = rng.integers(0, 256, (values // block, size), dtype=np.uint8)
    for at in SCALES.get(name, [0]):
        data[:, at + 1] &= 0xBB  # clears an exponent bit: neither infinite nor NaN
    if name == "BF16":
        data[:, 1] &= 0xBF
    return data.reshape(-1)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.path.join(here, "..", "crates", "tensor", "tests", "data", "quant_golden.bin")
    parser.add_argument("-o", "--output", default=default)
    args = parser.parse_args()

    ggml = load_ggml()
    rng = np.random.default_rng(20240605)
    inputs = make_inputs(rng)
    records = []
    for name in TYPES:
        kind = gguf.GGMLQuantizationType[name]
        for case, values in inputs.items():
            data = encode(ggml, name, values)
            try:
                other = gguf.quants.quantize(values, kind).view(np.uint8)
                if not np.array_equal(data, other):
                    raise SystemExit(f"gguf-py encodes {name} {case!r} differently ({(data != other).sum()} bytes)")
            except NotImplementedError:
                pass
            records.append((name, case, data))
        records.append((name, "random", random_blocks(rng, name, 768)))

    out = bytearray(struct.pack("<I", len(inputs)))
    for case, values in inputs.items():
        out += struct.pack("<16sI", case.encode(), values.size) + values.tobytes()
    out += struct.pack("<I", len(records))
    for name, case, data in records:
        decoded = decode(ggml, name, data)
        other = gguf.quants.dequantize(data, gguf.GGMLQuantizationType[name])
        assert np.array_equal(decoded, other), f"ggml and gguf-py decode {name} {case} differently"
        assert np.isfinite(decoded).all(), (name, case)
        out += struct.pack("<8s16sI", name.encode(), case.encode(), data.size) + data.tobytes()
        out += struct.pack("<I", decoded.size)
        out += decoded.tobytes() if case == "random" else struct.pack("<Q", fnv1a(decoded.tobytes()))
    os.makedirs(os.path.dirname(args.output), exist_ok=True)
    with open(args.output, "wb") as file:
        file.write(out)
    print(f"{args.output}: {len(inputs)} inputs, {len(records)} records, {len(out)} bytes")


if __name__ == "__main__":
    main()
