#!/usr/bin/env python3
"""Small GGUF files as gguf-py writes them, with what gguf-py reads back, for the checkpoint crate's tests.

    python tools/make_gguf_samples.py crates/checkpoint/tests/data/gguf

Writes one file with every kind of value and every tensor type, one with another alignment, one big-endian, and a split
set; `expected.json` holds the values, types, shapes, offsets and CRC-32s. Needs gguf and numpy.
"""

import json
import sys
import zlib
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFEndian, GGUFReader, GGUFValueType as V, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES

TYPES = [
    T.F32, T.F16, T.BF16, T.F64, T.I8, T.I16, T.I32, T.I64, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0,
    T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.IQ4_NL, T.IQ4_XS,
]
PLAIN = {T.F32: "f4", T.F16: "f2", T.F64: "f8", T.I8: "i1", T.I16: "i2", T.I32: "i4", T.I64: "i8"}


def add_tensor(writer, random, name, kind, shape):
    block, size = GGML_QUANT_SIZES[kind]
    row = np.frombuffer(random.bytes(int(np.prod(shape[:-1])) * shape[-1] // block * size), np.uint8)
    if kind in PLAIN:
        writer.add_tensor(name, np.resize(row.view(PLAIN[kind]), shape))
    else:
        writer.add_tensor(name, row.reshape(*shape[:-1], -1), raw_dtype=kind)


def add_values(writer):
    writer.add_uint8("v.u8", 200)
    writer.add_int8("v.i8", -100)
    writer.add_uint16("v.u16", 60000)
    writer.add_int16("v.i16", -30000)
    writer.add_uint32("v.u32", 4000000000)
    writer.add_int32("v.i32", -2000000000)
    writer.add_uint64("v.u64", 2**63 + 5)
    writer.add_int64("v.i64", -(2**62))
    writer.add_float32("v.f32", 1.5625e-07)
    writer.add_float64("v.f64", 0.1)
    writer.add_bool("v.true", True)
    writer.add_bool("v.false", False)
    writer.add_string("v.str", "智谱 [gMASK]<sop>\n")
    writer.add_array("a.str", ["<unk>", "", "▁的", "Ġthe"])
    writer.add_array("a.i32", [-1, 0, 2147483647])
    writer.add_array("a.f32", [0.5, -1e30])
    writer.add_array("a.bool", [True, False, True])
    writer.add_key_value("a.u8", b"\x00\x7f\xff", V.ARRAY)
    writer.add_key_value("a.u64", [2**40], V.ARRAY, sub_type=V.UINT64)


def write(path, seed, fill, **options):
    random = np.random.default_rng(seed)
    writer = GGUFWriter(path, "chatglm", **options)
    fill(writer, random)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def everything(writer, random):
    add_values(writer)
    for kind in TYPES:
        width = 256 if GGML_QUANT_SIZES[kind][0] > 1 else 3
        add_tensor(writer, random, f"t.{kind.name}", kind, [2, width])
    add_tensor(writer, random, "t.one", T.F32, [5])
    add_tensor(writer, random, "t.three", T.F16, [2, 3, 4])


def aligned(writer, random):
    writer.add_custom_alignment(256)
    add_tensor(writer, random, "first", T.F32, [3])
    add_tensor(writer, random, "second", T.Q8_0, [2, 32])


def split(writer, random):
    writer.add_uint32("chatglm.block_count", 5)
    for i in range(5):
        add_tensor(writer, random, f"blk.{i}.attn_norm.weight", T.F32, [4 + i])


def value(field):
    got = field.contents()
    if isinstance(got, bytes):
        return list(got)
    return got


def describe(path):
    reader = GGUFReader(path)
    data = path.read_bytes()
    fields = {k: value(f) for k, f in reader.fields.items() if not k.startswith("GGUF.")}
    tensors = {}
    for t in reader.tensors:
        raw = data[t.data_offset : t.data_offset + t.n_bytes]
        shape = [int(d) for d in reversed(t.shape)]
        tensors[t.name] = [t.tensor_type.name, shape, int(t.data_offset), f"{zlib.crc32(raw):08x}"]
    return {"fields": fields, "tensors": tensors}


def main(out):
    out.mkdir(parents=True, exist_ok=True)
    write(out / "everything.gguf", 1, everything)
    write(out / "aligned.gguf", 2, aligned)
    write(out / "big-endian.gguf", 3, aligned, endianess=GGUFEndian.BIG)
    write(out / "split.gguf", 4, split, split_max_tensors=2)
    names = sorted(p.name for p in out.glob("*.gguf") if p.name != "big-endian.gguf")
    expected = {name: describe(out / name) for name in names}
    (out / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
