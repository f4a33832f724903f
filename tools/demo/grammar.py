"""Phrases with alternatives: "(how|where) can I [please] <verb>" stands for many sentences, one of which is drawn.

(a|b|c) takes one branch, [a|b] one or, more often, none, <slot> is replaced from the dictionary given. Nesting is allowed.
"""

import re

_INNERMOST = re.compile(r"\(([^()\[\]]*)\)|\[([^()\[\]]*)\]")
_SLOT = re.compile(r"<(\w+)>")


def draw(phrase, rng, **slots):
    """One sentence of the grammar `phrase` (or of one of them, if it is a list)."""
    if not isinstance(phrase, str):
        phrase = rng.choice(phrase)

    def branch(match):
        if match[1] is not None:
            return rng.choice(match[1].split("|"))
        return rng.choice(match[2].split("|")) if rng.random() < 0.4 else ""

    while True:
        shorter = _INNERMOST.sub(branch, phrase)
        if shorter == phrase:
            break
        phrase = shorter
    return re.sub(" +", " ", _SLOT.sub(lambda m: str(slots[m[1]]), phrase)).strip()


_KEYS = {"a": "sq", "b": "vn", "c": "xv", "d": "sf", "e": "wr", "f": "dg", "g": "fh", "h": "gj", "i": "uo", "j": "hk", "k": "jl", "l": "k",
         "m": "n", "n": "bm", "o": "ip", "p": "o", "q": "w", "r": "et", "s": "ad", "t": "ry", "u": "yi", "v": "cb", "w": "qe", "x": "zc",
         "y": "tu", "z": "x"}


def typo(text, rng, kept=()):
    """One slip of the fingers in an English word of four letters or more that is not in `kept`."""
    places = [m for m in re.finditer(r"(?<![\w.`/~-])[A-Za-z]{4,}(?![\w.`/~-])", text) if not any(m[0] in k for k in kept)]
    if not places:
        return text
    word = rng.choice(places)
    at = rng.randrange(word.start() + 1, word.end() - 1)
    kind = rng.randrange(4)
    if kind == 0:
        return text[:at] + text[at + 1:]
    if kind == 1:
        return text[:at] + text[at] + text[at:]
    if kind == 2:
        return text[:at] + text[at + 1] + text[at] + text[at + 2:]
    return text[:at] + rng.choice(_KEYS[text[at].lower()]) + text[at + 1:]


def roughen(text, language, rng, kept=()):
    """What people really type: no full stop, small letters, blanks, slips. The words in `kept` stay as they are."""
    if language == "en":
        dice = rng.random()
        if not kept:
            if dice < 0.45:
                text = text.lower()
            elif dice < 0.50:
                text = text.upper()
            elif dice < 0.80:
                text = text[:1].upper() + text[1:]
        elif dice < 0.6 and not any(text.startswith(k) for k in kept):
            text = text[:1].upper() + text[1:]
        dice = rng.random()
        if dice < 0.35:
            text = text.rstrip(".?!")
        elif dice < 0.40:
            text = text.rstrip(".?!") + rng.choice(["!", "...", " ?", "??", "!!", "."])
        if rng.random() < 0.08:
            text = typo(text, rng, kept)
        if rng.random() < 0.08:
            text = text.replace("'", "")
    else:
        dice = rng.random()
        if dice < 0.40:
            text = text.rstrip("。？！")
        elif dice < 0.48:
            text = text.replace("？", "?").replace("。", ".").replace("，", ",").replace("！", "!")
        elif dice < 0.53:
            text = text.rstrip("。？！") + rng.choice(["！", "~", "？？", "…", "。", " ?"])
    return text
