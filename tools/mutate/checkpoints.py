"""Mutations of checkpoints: safetensors, PyTorch's zipped pickles, GGUF."""

import io
import json
import pickletools
import struct
import warnings
import zipfile

import json_text
from json_text import Raw, damage

U64 = [0, 1, 2, 7, 8, 255, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 8, 2**64 - 1]
NAMES = [b"", b"\x1b[31mred\x1b[0m", b"a\nb\nc", b"\x00", b"\xff\xfe", b"x" * 70_000, "\u202e\u9006".encode(), b"weight", b"../w", b"\x9b2J"]
DTYPES = ["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F4", "C64", "", "\x1b[1m", "f32"]


def safetensors(rng, data):
    """Header: names, types, shapes, offsets, metadata, length; then bytes."""
    (size,) = struct.unpack_from("<Q", data)
    header, body = data[8 : 8 + size], data[8 + size :]
    choice = rng.random()
    if choice < 0.1:
        return damage(rng, data)
    if choice < 0.2:
        near = [size - 1, size + 1, size + 8, len(data), len(data) - 8, 0, size // 2]
        return struct.pack("<Q", rng.choice(near + U64) % 2**64) + data[8:]
    if choice < 0.25:
        return data[: rng.choice([0, 1, 7, 8, 9, 8 + size - 1, 8 + size, len(data) - 1, len(data) // 2])]
    if choice < 0.4:
        header = json_text.text(rng, header)
    else:
        tree = json.loads(header)
        for _ in range(rng.choice([1, 1, 2])):
            alter_tensor(rng, tree, len(body))
        header = json_text.dump(tree).encode("utf-8", "surrogatepass")
    header += b" " * (-len(header) % 8) if rng.random() < 0.9 else b""
    return struct.pack("<Q", len(header)) + header + body


def alter_tensor(rng, tree, body_len):
    names = [name for name in tree if isinstance(name, str) and name != "__metadata__"]
    name = rng.choice(names)
    entry = tree[name]
    what = rng.randrange(9)
    if not isinstance(entry, dict) or not {"shape", "dtype", "data_offsets"} <= entry.keys():
        what = 8
    if what == 0:
        entry["dtype"] = rng.choice(DTYPES)
    elif what == 1:
        shape = entry["shape"]
        if shape and rng.random() < 0.7:
            shape[rng.randrange(len(shape))] = rng.choice(U64 + [-1, 1.5, "4"])
        else:
            entry["shape"] = rng.choice([[], [0], [1] * 2000, shape + [1], shape[::-1], [2**32, 2**32], [2**63, 2, 0], shape[:1]])
    elif what == 2 and len(entry["data_offsets"]) == 2:
        entry["data_offsets"][rng.randrange(2)] = rng.choice(U64 + [-1, body_len, body_len + 1, body_len - 1, 0.5])
    elif what == 3:
        entry["data_offsets"] = rng.choice([[], [0], [0, 0, 0], entry["data_offsets"][::-1], tree[rng.choice(names)]["data_offsets"]])
    elif what == 4:
        tree[rng.choice(NAMES).decode("utf-8", "surrogateescape")] = tree.pop(name)
    elif what == 5:
        del tree[name]
    elif what == 6:
        tree[Raw(json.dumps(name))] = dict(entry, shape=[1])
    elif what == 7:
        tree["__metadata__"] = rng.choice([{"format": 1}, {"format": "\x1b[1m"}, [], {"a": {"b": 1}}, {"k" * 9999: "v" * 99999}, None])
    else:
        tree[name] = rng.choice([None, [], {}, {"dtype": "F32"}, Raw("1"), {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], "x": 1}])


def pickle(rng, data):
    """The archive, its entries, and the opcodes of `data.pkl`."""
    if rng.random() < 0.2:
        return damage(rng, data)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = next(number for number, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
    choice = rng.random()
    if choice < 0.7:
        program = entries[place][1]
        for _ in range(rng.choice([1, 1, 2, 3])):
            program = opcodes(rng, program)
        entries[place] = (entries[place][0], program)
    elif choice < 0.85:
        number = rng.randrange(len(entries))
        name, content = entries[number]
        change = rng.randrange(6)
        if change == 0:
            del entries[number]
        elif change == 1:
            entries[number] = (rng.choice(["", "../x", "archive/data/\x1b[1m", "a" * 5000, "data.pkl", "archive/data/0"]), content)
        elif change == 2:
            entries[number] = (name, content[: len(content) // 2])
        elif change == 3:
            entries.append((name, content[:8]))
        elif change == 4:
            entries[number] = (name, damage(rng, content))
        else:
            entries[number] = (name, b"")
    out = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if rng.random() < 0.08 else zipfile.ZIP_STORED
    with zipfile.ZipFile(out, "w", method) as archive, warnings.catch_warnings():
        # A name given twice is wanted here.
        warnings.simplefilter("ignore")
        for name, content in entries:
            info = zipfile.ZipInfo(name)
            info.compress_type = method
            archive.writestr(info, content)
    packed = out.getvalue()
    return directory(rng, packed) if choice >= 0.85 else packed


def directory(rng, data):
    """A number in a local header, the central directory or its end is replaced."""
    data = bytearray(data)
    signature, fields = rng.choice([
        (b"PK\3\4", [(4, 2), (6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2)]),
        (b"PK\1\2", [(8, 2), (10, 2), (16, 4), (20, 4), (24, 4), (28, 2), (30, 2), (32, 2), (34, 2), (42, 4)]),
        (b"PK\5\6", [(4, 2), (6, 2), (8, 2), (10, 2), (12, 4), (16, 4), (20, 2)]),
    ])
    found, at = [], data.find(signature)
    while at >= 0:
        found.append(at)
        at = data.find(signature, at + 4)
    at = rng.choice(found)
    offset, width = rng.choice(fields)
    if at + offset + width <= len(data):
        old = int.from_bytes(data[at + offset : at + offset + width], "little")
        new = rng.choice(U64 + [old + 1, max(old - 1, 0), old * 2]) % 256**width
        data[at + offset : at + offset + width] = new.to_bytes(width, "little")
    return bytes(data)


def opcodes(rng, program):
    """Deletes, doubles, swaps, replaces or inserts an operation of a pickle, or changes its argument."""
    try:
        starts = [position for _, _, position in pickletools.genops(program)]
    except (ValueError, IndexError, EOFError):
        return damage(rng, program)
    spans = [program[a:b] for a, b in zip(starts, starts[1:] + [len(program)])]
    number = rng.randrange(len(spans))
    span = spans[number]
    what = rng.randrange(8)
    if what == 0:
        del spans[number]
    elif what == 1:
        spans.insert(number, span)
    elif what == 2:
        other = rng.randrange(len(spans))
        spans[number], spans[other] = spans[other], span
    elif what == 3:
        spans[number] = rng.choice(pickletools.opcodes).code.encode("latin-1") + span[1:]
    elif what == 4 and len(span) > 1:
        at = rng.randrange(1, len(span))
        spans[number] = span[:at] + bytes([rng.choice([0, 1, 0x7F, 0x80, 0xFF, 0x1B, 0x0A])]) + span[at + 1 :]
    elif what == 5:
        name = rng.choice(NAMES)
        string = [b"X" + struct.pack("<I", len(name)) + name, b"\x8c" + bytes([len(name) % 256]) + name[:255], b"cos\nsystem\n",
                  b"cbuiltins\neval\n", b"c" + name.replace(b"\n", b" ") + b"\nx\n"]
        spans[number] = rng.choice(string)
    elif what == 6:
        spans.insert(number, rng.choice([
            b"(" * 100_000, b"]" * 100_000, b"2" * 100_000, b"]2a" * 1000, b"N" * 50_000, b"X\xff\xff\xff\xff", b"\x8d" + b"\xff" * 8,
            b"\x8e" + b"\xff" * 7 + b"\x7f", b"r\xff\xff\xff\xff", b"j\xff\xff\xff\x7f", b"\x8b\xff\xff\xff\x7f", b"I" + b"9" * 500 + b"\n",
            b"\x8a\xff" + b"\xff" * 255, b"G\x7f\xf8\0\0\0\0\0\0", b"0", b"t", b"R", b"Q", b"b", b"u", b"s", b".", b"\x95" + b"\xff" * 8,
            b"K\x00", b"J\xff\xff\xff\xff", b"L" + b"9" * 500 + b"L\n", b"F1e999\n", b"}" + b"2" * 20 + b"u" * 20,
        ]))
    else:
        integer = rng.choice(U64)
        spans[number] = b"\x8a\x09" + struct.pack("<Q", integer) + b"\0"
    return b"".join(spans)


# Bytes of a GGUF value by its type; 8 is a string, 9 an array.
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


class Gguf:
    """A GGUF's header as spans: (what it is, its bytes). What follows is data, aligned."""

    def __init__(self, data):
        self.data, self.at, self.spans = data, 0, []
        self.keys, self.tensors, self.alignment = [], [], 32
        self.take("magic", 4)
        self.take("version", 4)
        tensors, keys = self.number("count", 8), self.number("count", 8)
        for _ in range(keys):
            first = len(self.spans)
            key = self.string()
            self.value(self.number("type", 4), key)
            self.keys.append((first, len(self.spans)))
        for _ in range(tensors):
            first = len(self.spans)
            self.string()
            for _ in range(self.number("dimensions", 4)):
                self.number("dimension", 8)
            self.number("dtype", 4)
            self.number("offset", 8)
            self.tensors.append((first, len(self.spans)))
        self.body = data[-(-self.at // self.alignment) * self.alignment :]

    def take(self, what, width):
        self.spans.append((what, self.data[self.at : self.at + width]))
        self.at += width
        return self.spans[-1][1]

    def number(self, what, width):
        return int.from_bytes(self.take(what, width), "little")

    def string(self):
        return self.take("string", self.number("length", 8))

    def value(self, kind, key=b""):
        if kind == 8:
            self.string()
        elif kind == 9:
            inner = self.number("type", 4)
            count = self.number("count", 8)
            if inner in WIDTHS:
                self.take("values", WIDTHS[inner] * count)
            else:
                for _ in range(count):
                    self.value(inner)
        else:
            number = self.number("value", WIDTHS[kind])
            if key == b"general.alignment":
                self.alignment = number

    def bytes(self):
        header = b"".join(content for _, content in self.spans)
        return header + b"\0" * (-len(header) % (self.alignment or 1)) + self.body


def string(content):
    return struct.pack("<Q", len(content)) + content


def gguf(rng, data):
    """Counts, lengths, types, keys, values, dimensions, offsets; then bytes."""
    choice = rng.random()
    if choice < 0.12:
        return damage(rng, data)
    if data[:4] != b"GGUF" or data[4:6] == b"\0\0":
        at = rng.randrange(min(len(data), 400))
        return data[:at] + bytes([rng.choice([0, 1, 0x7F, 0x80, 0xFF])]) + data[at + 1 :]
    file = Gguf(data)
    spans = file.spans
    if choice < 0.2:
        return file.bytes()[: rng.randrange(len(data) - len(file.body) + 2)]
    for _ in range(rng.choice([1, 1, 2])):
        if choice < 0.5:
            # Most spans are the vocabulary's; the interesting ones are few.
            rare = [n for n, (what, _) in enumerate(spans) if what not in ("string", "length", "gone")]
            number = rng.choice(rare)
            what, old = spans[number]
            new = rng.choice(U64 + [int.from_bytes(old[:8], "little") + rng.choice([1, -1, 32])]) % 2**64
            spans[number] = (what, new.to_bytes(8, "little")[: len(old)] if len(old) <= 8 else damage(rng, old))
        elif choice < 0.6:
            number = rng.choice([n for n, (what, _) in enumerate(spans) if what == "length"])
            spans[number] = ("length", struct.pack("<Q", rng.choice(U64)))
        elif choice < 0.7:
            number = rng.choice([n for n, (what, _) in enumerate(spans) if what == "string"])
            content = rng.choice(NAMES)
            spans[number - 1 : number + 1] = [("length", struct.pack("<Q", len(content))), ("string", content)]
            break
        elif choice < 0.9 and file.keys:
            first, end = rng.choice(file.keys)
            what = rng.randrange(3)
            if what == 0:
                spans[first:end] = [("gone", b"")] * (end - first)
                recount(spans, 3, -1)
            elif what == 1:
                spans[end - 1] = ("doubled", spans[end - 1][1] + b"".join(content for _, content in spans[first:end]))
                recount(spans, 3, 1)
            else:
                spans[first + 2 : end] = [("replaced", value(rng))] + [("gone", b"")] * (end - first - 3)
        elif file.tensors:
            first, end = rng.choice(file.tensors)
            if rng.random() < 0.5:
                spans[first:end] = [("gone", b"")] * (end - first)
                recount(spans, 2, -1)
            else:
                spans[end - 1] = ("doubled", spans[end - 1][1] + b"".join(content for _, content in spans[first:end]))
                recount(spans, 2, 1)
    return file.bytes()


def recount(spans, number, change):
    count = int.from_bytes(spans[number][1], "little") + change
    spans[number] = ("count", struct.pack("<Q", max(count, 0)))


def value(rng):
    """A GGUF value of some type, with that type before it."""
    return rng.choice([
        struct.pack("<II", 4, rng.choice(U64) % 2**32),
        struct.pack("<IQ", 10, rng.choice(U64)),
        struct.pack("<Iq", 11, -1),
        struct.pack("<If", 6, rng.choice([float("nan"), float("inf"), -1.0, 0.0, 1e-40, 3e38])),
        struct.pack("<Id", 12, rng.choice([float("nan"), 1e308, -0.0])),
        struct.pack("<IB", 7, rng.choice([0, 1, 2, 255])),
        struct.pack("<I", 8) + string(rng.choice(NAMES)),
        struct.pack("<IIQ", 9, 4, 0),
        struct.pack("<IIQ", 9, 8, 3) + string(b"a") + string(b"a") + string(b"\xff"),
        struct.pack("<IIQ", 9, 5, 3) + struct.pack("<iii", -1, 0, 2**31 - 1),
        struct.pack("<IIQ", 9, 6, 2) + struct.pack("<ff", float("nan"), -1e30),
        struct.pack("<IIQ", 9, rng.choice([0, 4, 8, 9, 13]), rng.choice(U64)),
        struct.pack("<I", 9) + struct.pack("<IQ", 9, 1) * rng.choice([10, 100_000]) + struct.pack("<IQ", 4, 0),
        struct.pack("<I", rng.choice([13, 99, 2**32 - 1])),
    ])
