"""Mutations of what is text, or nearly: vocabularies, chat templates, files of keys, JSON lines; and of files as such."""

import base64
import os
import re
import struct

import json_text
from json_text import damage

WORDS = [b"", b" ", b"\x00", b"\x1b[31m", b"\xff\xfe", b"[UNK]", b"[CLS]", b"##", b"##a", b"x" * 100_000, "\u4f60".encode(), b"<|user|>",
         b"\xe2\x96\x81", b"<0x41>", b"<0xZZ>", b"\r", b"\t", b"a b", b"\xc2\x85", b"\xef\xbb\xbf", b"a" * 999 + b"\n" + b"b" * 999]


def lines(rng, data, word):
    """Deletes, doubles, swaps and replaces lines; `word` makes new ones of old."""
    if rng.random() < 0.15:
        return damage(rng, data)
    rows = data.split(b"\n")
    for _ in range(rng.choice([1, 1, 2, 5])):
        number = rng.randrange(len(rows))
        what = rng.randrange(8)
        if what == 0:
            del rows[number : number + rng.choice([1, 1, 10, 10_000])]
            rows = rows or [b""]
        elif what == 1:
            rows.insert(number, rows[number])
        elif what == 2:
            other = rng.randrange(len(rows))
            rows[number], rows[other] = rows[other], rows[number]
        elif what == 3 and rng.random() < 0.4:
            rows = rows * rng.choice([2, 20])
        elif what == 4 and rng.random() < 0.4:
            rows = [row + b"\r" for row in rows]
        else:
            rows[number] = word(rng, rows[number])
    return b"\n".join(rows)


def wordpiece(rng, data):
    return lines(rng, data, lambda rng, row: rng.choice(WORDS + [row + b" ", b"##" + row]))


def tiktoken(rng, data):
    """Ranks: `base64 number` a line."""

    def word(rng, row):
        token, _, rank = row.partition(b" ")
        ranks = [b"0", b"-1", b"1e3", b"4294967295", b"4294967296", b"99999999999999999999", b"", b"x", rank + b"0", b"1 2", b"2000000000"]
        tokens = [base64.b64encode(rng.choice(WORDS)), b"!!!!", b"=", token + b"=", token[:-1], b"AA", b"A"]
        return rng.choice([token + b" " + rng.choice(ranks), rng.choice(tokens) + b" " + rank, token, token + b"\t" + rank, rng.choice(WORDS)])

    return lines(rng, data, word)


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes(out + bytes([number]))


def read_varint(data, at):
    number = shift = 0
    while True:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number, at


def fields(data):
    """A protobuf message as [(number, wire type, value)]."""
    found, at = [], 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            value, at = read_varint(data, at)
        else:
            length, at = read_varint(data, at) if kind == 2 else ({1: 8, 5: 4}[kind], at)
            value, at = data[at : at + length], at + length
        found.append((tag >> 3, kind, value))
    return found


def message(parts):
    out = []
    for number, kind, value in parts:
        if number is None:
            out.append(value)
            continue
        out.append(varint(number << 3 | kind))
        out.append(varint(value) if kind == 0 else varint(len(value)) + value if kind == 2 else value)
    return b"".join(out)


def sentencepiece(rng, data):
    """Pieces, scores, types, the trainer's and the normalizer's settings, lengths, tags."""
    if rng.random() < 0.15:
        return damage(rng, data)
    parts = fields(data)
    others = [n for n, (number, _, _) in enumerate(parts) if number != 1]
    for _ in range(rng.choice([1, 1, 2, 5])):
        # Nearly all parts are pieces.
        number = rng.choice(others) if others and rng.random() < 0.4 else rng.randrange(len(parts))
        if number >= len(parts):
            continue
        tag, kind, value = parts[number]
        if tag is None:
            continue
        what = rng.randrange(10)
        if what == 0:
            del parts[number]
            others = [n for n, (tag, _, _) in enumerate(parts) if tag != 1]
        elif what == 1:
            parts += [parts[number]] * rng.choice([1, 1, 3000])
        elif what == 2:
            parts[number] = (None, 0, varint(tag << 3 | 2) + varint(rng.choice([2**31, 2**32, 2**63, 2**64 - 1, len(data)])))
        elif what == 3:
            parts[number] = (None, 0, bytes([rng.choice([0x0B, 0x0C, 0x0F, 0x00, 0xFF])]) * rng.choice([1, 11, 100_000]))
        elif what == 4:
            parts[number] = (rng.choice([0, 1, 2, 3, 5, 99, 2**28]), kind, value)
        elif kind == 2 and value:
            try:
                inner = fields(value)
            except (IndexError, KeyError):
                parts[number] = (tag, kind, damage(rng, value))
                continue
            if not inner:
                continue
            place = rng.randrange(len(inner))
            inner_tag, inner_kind, old = inner[place]
            if inner_kind == 0:
                new = rng.choice([0, 1, 2, 3, 4, 5, 6, 7, 2**31, 2**32, 2**63, 2**64 - 1])
            elif inner_kind == 5:
                new = struct.pack("<f", rng.choice([float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1e38, -1e38, 1e-45]))
            else:
                new = rng.choice(WORDS) if rng.random() < 0.7 else damage(rng, old)
            inner[place] = (inner_tag, inner_kind, new)
            parts[number] = (tag, kind, message(inner))
    return message(parts)


PARTS = re.compile(r"\{\{-?|-?\}\}|\{%-?|-?%\}|\{#|#\}|\w+|\s+|.", re.DOTALL)
HOSTILE = [
    "{% for i in range(1000000000) %}x{% endfor %}",
    "{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}",
    "{{ 'ab' * 1000000000 }}", "{{ [0] * 1000000000 }}", "{{ 9 ** 9 ** 9 }}", "{{ 2 ** 63 * 2 }}", "{{ 1 / 0 }}", "{{ 1 % 0 }}", "{{ 1 // 0 }}",
    "{{ -9223372036854775808 // -1 }}", "{{ 'x'.center(1000000000) }}", "{{ 'x' | indent(1000000000) }}", "{{ '%1000000000d' | format(1) }}",
    "{{ 'x' | wordwrap(0) }}", "{{ [1, 2] | batch(0) | list }}", "{{ [1, 2] | slice(0) | list }}", "{{ 'a'.split('') }}", "{{ 'ab'[::0] }}",
    "{{ 'abc'[-9223372036854775808:9223372036854775807:-1] }}", "{{ [1, 2, 3][1:2:-9223372036854775807] }}", "{{ 'a' | replace('', 'bb' * 100) }}",
    "{% set ns = namespace(s='ab') %}{% for i in range(64) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace(l=[]) %}{% for i in range(64) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ ns.l }}{{ ns.l | tojson }}",
    "{% set ns = namespace() %}{% set ns.ns = ns %}{{ ns }}{{ ns | tojson }}", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "{% macro f(x) %}{{ x(x) }}{% endmacro %}{{ f(f) }}", "{{ messages | sort }}", "{{ messages | map(attribute='content') | join | upper }}",
    "{{ raise_exception('\x1b[31m' ~ 'no\n' * 1000) }}", "{{ raise_exception(messages) }}", "{{ raise_exception() }}", "{{ strftime_now('%' * 1000) }}",
    "{{ strftime_now('%1000000000d') }}", "{% include 'x' %}", "{% if true %}", "{% endfor %}", "{{", "{%", "{#", "{{ '", "{% raw %}", "{% set x = %}",
    "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "{{ " + "[" * 100_000, "{{ " + "not " * 50_000 + "1 }}", "{{ " + "-" * 50_000 + "1 }}",
    "{% if 1 %}" * 3000 + "{% endif %}" * 3000, "{{ x" + ".y" * 50_000 + " }}", "{{ 1" + " + 1" * 50_000 + " }}", "{{ x" + "|upper" * 20_000 + " }}",
    "{{ 1 if 1 else " * 3000 + "1" + " }}" * 3000, "{{ 'a' " + "~ 'a' " * 30_000 + "}}", "{{ \u4f60\u597d }}", "{{ '\\ud800\\x00\\777' }}", "{{ 1e999 }}",
    "{{ 99999999999999999999999999999 }}", "{{ x.__class__.__mro__ }}", "{{ self }}{{ loop }}{{ caller() }}", "{% call f() %}{% endcall %}",
    "{% for a, b, c in messages %}{% endfor %}", "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}", "{{ dict(a=1, **{'a': 2}) }}",
    "{% filter upper %}{{ messages }}{% endfilter %}", "{{ messages | tojson(indent=1000000000) }}", "{{ lipsum(1000000) }}", "{{ range(1, 2, 0) | list }}",
    "{{ (1, 2) * 1000000000 }}", "{{ messages | groupby('role') }}", "{{ cycler('a') }}{{ joiner() }}", "{{ 'a' ~ 1 ~ none ~ messages }}",
    "{{ '\u0130' | lower | upper | title | capitalize }}", "{{ 'a' * -1 }}", "{{ 1.5 | round(1000000) }}", "{{ 1.5 | round(-1000000, 'ceil') }}",
    "{{ range(9223372036854775807) | list | length }}", "{{ range(-9223372036854775808, 9223372036854775807) | last }}", "{{ 'x' | truncate(-9) }}",
    "{{ messages[9223372036854775807] }}", "{{ 'abc' | center(99999999999) }}", "{{ ['a'] | join('x' * 100000000) }}", "{{ {} | dictsort | xmlattr }}",
]


def template(rng, data):
    """Tokens of a Jinja template deleted, doubled, swapped, spliced; and what an enemy would write."""
    if rng.random() < 0.1:
        return damage(rng, data)
    parts = PARTS.findall(data.decode("utf-8"))
    for _ in range(rng.choice([1, 1, 2, 4])):
        number = rng.randrange(len(parts) + 1) if parts else 0
        what = rng.randrange(7)
        if what == 0:
            del parts[number : number + rng.choice([1, 1, 3, 20])]
        elif what == 1:
            parts[number:number] = parts[number : number + rng.choice([1, 5, 20])] * rng.choice([1, 1, 500])
        elif what == 2 and parts:
            other = rng.randrange(len(parts))
            number = min(number, len(parts) - 1)
            parts[number], parts[other] = parts[other], parts[number]
        elif what == 3 and parts:
            parts[min(number, len(parts) - 1)] = rng.choice(["\x00", "\x1b", "{{", "}}", "%}", "'", "|", "(", "[", "9" * 400, "none", "messages", "loop", "**", "//"])
        else:
            parts.insert(number, rng.choice(HOSTILE))
    return "".join(parts).encode("utf-8", "surrogatepass")


def keys(rng, data):
    """A file of API keys."""
    return lines(rng, data, lambda rng, row: rng.choice(
        WORDS + [b"#", b" " + row + b" ", row + b"\x00", b"Bearer " + row, b"k" * 10, row * 5000, b"\xe4", row.upper()]))


def json_lines(rng, data, keys=None):
    """A line's object is mutated; or lines are."""
    if rng.random() < 0.25:
        return lines(rng, data, lambda rng, row: rng.choice(WORDS + [b"[]", b"1", b"null", b"{", row[:-1], row + row, b"[" * 100_000]))
    rows = data.rstrip(b"\n").split(b"\n")
    number = rng.randrange(len(rows))
    rows[number] = json_text.text(rng, rows[number], keys)
    return b"\n".join(rows) + b"\n"


FILES = ["missing", "empty", "directory", "pipe", "zeros", "loop", "dangling", "pointer", "hole", "self", "socket", "blank", "nul"]


def put_file(rng, path, data):
    """Puts something else where a file is expected; returns what."""
    what = rng.choice(FILES)
    if os.path.lexists(path):
        os.remove(path)
    if what == "directory":
        os.mkdir(path)
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "zeros":
        os.symlink("/dev/zero", path)
    elif what == "loop":
        os.symlink(os.path.basename(path), path)
    elif what == "dangling":
        os.symlink("nothing", path)
    elif what == "self":
        os.symlink(".", path)
    elif what == "socket":
        os.mknod(path, 0o140600)
    elif what == "hole":
        # Terabytes that take no room on a disk.
        with open(path, "wb") as file:
            file.write(data[:100])
            file.truncate(rng.choice([1 << 30, 5 << 30]))
    elif what != "missing":
        content = {"empty": b"", "blank": b" \n" * 50, "nul": b"\0" * 4096,
                   "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12345\n"}[what]
        with open(path, "wb") as file:
            file.write(content)
    return what
