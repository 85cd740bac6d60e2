"""A line in a compiler's own colours to styled runs: the select-graphic-rendition sequences of terminals."""

from __future__ import annotations

import re

from hotreload.reporters.screen import SGR_COLOURS, Line, Run
from hotreload.reporters.wording import clean

_SGR = re.compile(r"\x1b\[([0-9;:]*)m")


def runs(line: str) -> Line:
    """The line's texts with the names of their styles. Weight and the eight colours are kept, in their bright form too;
    of all others the text alone."""
    found: list[Run] = []
    bold, colour, at = False, "", 0
    for sequence in _SGR.finditer(line):
        found.append((_style(bold, colour), clean(line[at : sequence.start()])))
        bold, colour = _after(sequence[1], bold, colour)
        at = sequence.end()
    found.append((_style(bold, colour), clean(line[at:])))
    return [(style, text) for style, text in found if text]


def _style(bold: bool, colour: str) -> str:
    return ".".join(("sgr", *(["bold"] * bold), *([colour] if colour else []))) if bold or colour else ""


def _after(numbers: str, bold: bool, colour: str) -> tuple[bool, str]:
    """Weight and colour after a sequence's numbers."""
    codes = [int(number or 0) for number in re.split("[;:]", numbers)]
    at = 0
    while at < len(codes):
        code = codes[at]
        if code == 0:
            bold, colour = False, ""
        elif code in (1, 22):
            bold = code == 1
        elif 30 <= code <= 37 or 90 <= code <= 97:
            colour = SGR_COLOURS[code % 10]
        elif code == 39:
            colour = ""
        elif code in (38, 48):  # 38;5;N of 256 colours, or 38;2;R;G;B
            kind, number = (*codes[at + 1 : at + 3], -1, -1)[:2]
            if code == 38:
                colour = SGR_COLOURS[number % 8] if kind == 5 and 0 <= number < 16 else ""
            at += 2 if kind == 5 else 4
        at += 1
    return bold, colour
