"""Turns a terminal's contents (`tmux capture-pane -p -e`) on standard input into an SVG on standard output.

    tmux capture-pane -p -e -t chat | python3 tools/terminal_svg.py > docs/chat.svg

Python 3 alone.
"""

import re
import sys
import unicodedata
from html import escape

CELL, LINE, MARGIN, SIZE = 8.4, 19, 16, 14
COLOURS = ["#3b4252", "#bf616a", "#a3be8c", "#ebcb8b", "#81a1c1", "#b48ead", "#88c0d0", "#e5e9f0"]
TEXT, GROUND = "#e5e9f0", "#242933"


def width(text):
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def spans(line, style):
    """(text, style) of a line; styles are (colour, dim, bold)."""
    for part in re.split(r"(\x1b\[[0-9;]*m)", line):
        match = re.fullmatch(r"\x1b\[([0-9;]*)m", part)
        if not match:
            if part:
                yield re.sub(r"\x1b[^m]*m?", "", part), tuple(style)
            continue
        for code in [int(c or 0) for c in match[1].split(";")]:
            if code == 0:
                style[:] = [TEXT, False, False]
            elif code == 1:
                style[2] = True
            elif code == 2:
                style[1] = True
            elif code == 22:
                style[1] = style[2] = False
            elif 30 <= code <= 37 or 90 <= code <= 97:
                style[0] = COLOURS[code % 10]
            elif code == 39:
                style[0] = TEXT


def main():
    lines = sys.stdin.read().rstrip("\n").split("\n")
    columns = max(width(re.sub(r"\x1b\[[0-9;]*m", "", line)) for line in lines)
    w, h = columns * CELL + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{w:.0f}" height="{h}" viewBox="0 0 {w:.0f} {h}">')
    print(f'<rect width="100%" height="100%" rx="8" fill="{GROUND}"/>')
    print(f'<g font-family="ui-monospace, Menlo, Consolas, \'Noto Sans Mono CJK SC\', monospace" font-size="{SIZE}" xml:space="preserve">')
    style = [TEXT, False, False]
    for row, line in enumerate(lines):
        column = 0
        for text, (colour, dim, bold) in spans(line, style):
            if text.strip():
                x, y = MARGIN + column * CELL, MARGIN + row * LINE + SIZE
                looks = f' fill="{colour}"' + (' opacity="0.55"' if dim else "") + (' font-weight="bold"' if bold else "")
                # Full-width characters are as wide as two cells whatever the font.
                print(f'<text x="{x:.1f}" y="{y}" textLength="{width(text) * CELL:.1f}"{looks}>{escape(text)}</text>')
            column += width(text)
    print("</g>\n</svg>")


if __name__ == "__main__":
    main()
