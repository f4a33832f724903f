"""Mutations of JSON: of its tree, written out again with things that no tree holds, and of its text."""

import json

DEEP = [60, 129, 1000, 200_000]
NUMBERS = [
    "0", "-0", "-1", "1", "2", "3", "7", "255", "65536", "2147483647", "2147483648", "4294967295", "4294967296",
    "9007199254740993", "9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616",
    "-9223372036854775809", "340282366920938463463374607431768211456", "1e19", "1e308", "1e999", "-1e999", "1e-320",
    "0.5", "1.0", "0.1e-7", "NaN", "Infinity", "-Infinity", "1" + "0" * 400, "0x10", "01", "1e", "+1", "1_000",
]
STRINGS = [
    '""', '" "', '"\\u0000"', '"\\u001b[31mred\\u001b]0;title\\u0007"', '"\\ud800"', '"a\\nb\\rc"', '"\\u202eabc"', '"\x7f\x9b"',
    '"../../../x"', '"/dev/zero"', '"C:\\\\x"', '"1"', '"true"', '"null"', '"\u4f60\u597d"', '"%s%n{}"', '"\\u2028line"', '"auto"',
    '"' + "x" * 5000 + '"', '"' + "\u597d" * 4000 + '"', '"' + "y" * 300_000 + '"', '"' + "\\u001b" * 400 + '"', '"unterminated',
]
OTHERS = ["null", "true", "false", "[]", "{}", "[[]]", "[null]", '{"a": 1}', "[1, 2, 3]", '{"": null}', "tru", "", "[1,]", "{,}"]


class Raw:
    """Text that stands in a tree in place of a value."""

    def __init__(self, text):
        self.text = text


def dump(tree):
    """The tree as text. Dictionaries may hold `Raw` keys, which makes duplicates possible."""
    if isinstance(tree, Raw):
        return tree.text
    if isinstance(tree, dict):
        pairs = (f"{k.text if isinstance(k, Raw) else json.dumps(k, ensure_ascii=False)}: {dump(v)}" for k, v in tree.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(tree, list):
        return "[" + ", ".join(map(dump, tree)) + "]"
    return json.dumps(tree, ensure_ascii=False)


def deep(rng):
    """A value in many brackets, closed or not."""
    times = rng.choice(DEEP)
    opening, closing = rng.choice([("[", "]"), ('{"a":', "}"), ('[{"b":', "}]")])
    return Raw(opening * times + "0" + (closing * times if rng.random() < 0.8 else ""))


def value(rng):
    """A value that is probably not what is expected."""
    pool = rng.choice([NUMBERS, NUMBERS, STRINGS, STRINGS, OTHERS])
    return deep(rng) if rng.random() < 0.06 else Raw(rng.choice(pool))


def near(rng, number):
    """A number beside one that fits."""
    return rng.choice([number + 1, number - 1, -number, number * 2, number // 2 if isinstance(number, int) else number / 2,
                       number * 1000, float(number), str(number), number + 0.5, number * 2**33])


def places(tree, keys=None):
    """Every (container, key) below a tree whose key, or that of something around it, is in `keys`."""
    found, stack = [], [(tree, keys is None)]
    while stack:
        node, wanted = stack.pop()
        children = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, child in children:
            here = wanted or isinstance(key, str) and key in keys
            if here:
                found.append((node, key))
            stack.append((child, here))
    return found


def alter(rng, tree, keys=None, steps=None):
    """Changes a tree in place, in one to three places; `keys` are preferred where there are such."""
    for _ in range(steps or rng.choice([1, 1, 1, 2, 3])):
        candidates = keys and rng.random() < 0.8 and places(tree, keys) or places(tree)
        if not candidates:
            return
        container, key = rng.choice(candidates)
        old = container[key]
        number = isinstance(old, (int, float)) and not isinstance(old, bool)
        choice = rng.random()
        if number and choice < 0.35:
            container[key] = near(rng, old)
        elif choice < 0.6:
            container[key] = value(rng)
        elif choice < 0.7:
            del container[key]
        elif choice < 0.76 and isinstance(key, str):
            container[Raw(json.dumps(key))] = value(rng)
        elif choice < 0.8 and isinstance(container, dict):
            container[Raw(rng.choice(STRINGS[:-1]))] = container.pop(key)
        elif choice < 0.85:
            container[key] = [old] * (rng.choice([1, 2]) if isinstance(old, (dict, list)) else rng.choice([1, 2, 3000]))
        elif choice < 0.9 and isinstance(old, list):
            container[key] = old * rng.choice([0, 2, 50]) if len(old) < 50 else old[: len(old) // 2]
        elif choice < 0.95:
            other, other_key = rng.choice(places(tree))
            if not isinstance(other[other_key], (dict, list)) and not isinstance(old, (dict, list)):
                container[key], other[other_key] = other[other_key], old
            else:
                container[key] = value(rng)
        else:
            container[key] = {"type": old}


def text(rng, data, keys=None):
    """A mutation of a JSON file's bytes: mostly of its tree."""
    if rng.random() < 0.12:
        return damage(rng, data)
    tree = json.loads(data)
    root = [tree]
    if rng.random() < 0.03:
        root[0] = value(rng)
    else:
        alter(rng, tree, keys)
    out = dump(root[0]).encode("utf-8", "surrogatepass")
    if rng.random() < 0.04:
        out = rng.choice([b"\xef\xbb\xbf" + out, out + b"\n{}", out + b"\x00", b" " * 100_000 + out, out.replace(b'"', b'"\xff', 1)])
    return out


def damage(rng, data):
    """A mutation that knows no structure: cut, flipped, doubled, filled."""
    data = bytearray(data)
    size = len(data)
    at = rng.randrange(size + 1) if rng.random() < 0.6 or size < 64 else rng.randrange(64)
    length = min(rng.choice([1, 1, 2, 4, 8, 16, 100, 4096]), size - at)
    what = rng.randrange(8)
    if what == 0:
        del data[at:]
    elif what == 1:
        for _ in range(rng.choice([1, 1, 4, 64])):
            if size:
                data[rng.randrange(size)] ^= 1 << rng.randrange(8)
    elif what == 2:
        data[at:at] = data[at : at + length]
    elif what == 3:
        del data[at : at + length]
    elif what == 4:
        data[at : at + length] = bytes([rng.choice([0, 0xFF, 0x7F, 0x80, 0x1B])]) * length
    elif what == 5:
        data[at:at] = rng.randbytes(rng.choice([1, 2, 8, 64]))
    elif what == 6:
        data += rng.choice([b"\0", b"\n", b"\xff" * 9, bytes(data[:100])])
    else:
        other = rng.randrange(size + 1)
        data[at : at + length] = data[other : other + length]
    return bytes(data)
