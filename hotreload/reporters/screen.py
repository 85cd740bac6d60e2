"""A frame as data: lines of styled text of exact width, for a rich console or as the fewest bytes for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.segment import Segment
from rich.style import Style

Run = tuple[str, str]
"""A name in STYLES and text without controls."""
Line = Sequence[Run]

SGR_COLOURS = ("black", "red", "green", "yellow", "blue", "magenta", "cyan", "white")
"""In the order of their numbers, 30 to 37."""
# Black and white may be the background's colour.
_SGR = {name: "default" if name in ("black", "white") else name for name in SGR_COLOURS}

# The terminal's own colours, so that light and dark backgrounds both work; and dim, not "bright black", for what steps
# back: some themes give that the colour of the background, and dim also remains under NO_COLOR.
STYLES: Mapping[str, Style] = MappingProxyType(
    {
        name: Style.parse(definition)
        for name, definition in {
            "": "none",
            "frame": "dim",
            "frame.bad": "red",
            "frame.warn": "yellow",
            "faint": "dim",
            "strong": "bold",
            "title": "bold",
            "name": "bold cyan",
            "accent": "cyan",
            "good": "green",
            "warn": "yellow",
            "bad": "bold red",
            "badly": "red",
            "key": "bold",
            "spark": "cyan",
            "cursor": "bold cyan",
            "input": "bold underline",
            "sgr.bold": "bold",
            **{f"sgr.{name}": shown for name, shown in _SGR.items()},
            **{f"sgr.bold.{name}": f"bold {shown}" for name, shown in _SGR.items()},
        }.items()
    }
)

_ASCII = str.maketrans(
    dict(zip("╭╮╰╯├┤─│┃●○◌◆✗✓▸▪…→›·×↑↓µ▁▂▃▄▅▆▇█▏━", "++++++-|!*o.#x+>.~>>.x^vu_:-=+*##|=", strict=True))
)


def to_ascii(text: str) -> str:
    """The text in ASCII and just as wide: signs have a stand-in, other characters become question marks."""
    if text.isascii():
        return text
    return "".join(sign if sign.isascii() else "?" * cell_len(sign) for sign in text.translate(_ASCII))


def width_of(text: str) -> int:
    """Terminal cells."""
    return len(text) if text.isascii() else cell_len(text)


def cut(text: str, width: int) -> str:
    """The start of the text, in at most ``width`` cells, ending in an ellipsis where something is missing."""
    if width_of(text) <= width:
        return text
    return _head(text, width - 1) + "…" if width > 0 else ""


def cut_middle(text: str, width: int) -> str:
    """Start and end of the text: names of one family differ at their ends."""
    if width_of(text) <= width:
        return text
    if width < 5:
        return cut(text, width)
    tail = _head(text[::-1], (width - 1) // 2)[::-1]
    return f"{_head(text, width - 1 - width_of(tail))}…{tail}"


def cut_start(text: str, width: int) -> str:
    """The end of the text, for paths: their last parts tell most."""
    if width_of(text) <= width:
        return text
    return "…" + _head(text[::-1], width - 1)[::-1] if width > 0 else ""


def left(text: str, width: int) -> str:
    """The text in exactly ``width`` cells, flush left."""
    text = cut(text, width)
    return text + " " * (width - width_of(text))


def right(text: str, width: int) -> str:
    """The text in exactly ``width`` cells, flush right."""
    text = cut(text, width)
    return " " * (width - width_of(text)) + text


def wrap(text: str, width: int, most: int) -> list[str]:
    """Words in lines of at most ``width`` cells; the last of ``most`` lines ends in an ellipsis when text is left."""
    lines: list[str] = []
    current = ""
    for word in text.split():
        if current and width_of(current) + 1 + width_of(word) > width:
            lines.append(current)
            current = word
        else:
            current = f"{current} {word}" if current else word
        while width_of(current) > width > 1:
            head = _head(current, width)
            lines.append(head)
            current = current[len(head) :]
    lines.append(current)
    if len(lines) > most:
        lines = [*lines[: most - 1], cut(f"{lines[most - 1]} {lines[most]}", width - 1).rstrip("…") + "…"]
    return lines


def cells(line: Iterable[Run]) -> int:
    return sum(width_of(text) for _, text in line)


def fit(line: Iterable[Run], width: int) -> list[Run]:
    """The line in exactly ``width`` cells: padded, or cut with an ellipsis."""
    runs = list(line)
    spare = width - cells(runs)
    if spare >= 0:
        return [*runs, ("", " " * spare)] if spare else runs
    fitted: list[Run] = []
    room = width - 1
    for style, text in runs:
        head = _head(text, room)
        fitted.append((style, head))
        room -= width_of(head)
        if head != text:
            break
    return [*fitted, (style, "…" + " " * room)] if width > 0 else []


def fold(line: Iterable[Run], width: int, most: int) -> list[Line]:
    """The styled line in lines of at most ``width`` cells, broken at blanks where there are any; what is left after
    ``most`` lines ends in an ellipsis."""
    rest = list(line)
    lines: list[Line] = []
    while cells(rest) > width > 1 and len(lines) < most - 1:
        head = _head("".join(text for _, text in rest), width + 1)
        end = head.rstrip().rfind(" ") if len(head.rstrip()) == len(head) else len(head.rstrip())
        first, rest = _split(rest, end if end > 0 else len(head) - 1)
        lines.append(first)
        rest = _split(rest, 1)[1] if rest[0][1].startswith(" ") else rest
    return [*lines, fit(rest, width) if cells(rest) > width else rest]


def scrolled(line: Iterable[Run], keep: int, by: int) -> Line:
    """The line without the ``by`` cells after its first ``keep``; an ellipsis tells where they were, or a blank where
    they were all blank."""
    found: list[Run] = []
    at, end, mark = 0, keep + by, " "
    for style, text in line:
        shown = ""
        for sign in text:
            behind = at + width_of(sign)
            if at < keep or at >= end:
                shown += sign
            else:
                mark = mark if sign == " " else "…"
                if behind >= end:
                    shown += mark + " " * (behind - end)
            at = behind
        found.append((style, shown))
    return [run for run in found if run[1]]


def _split(line: Sequence[Run], at: int) -> tuple[list[Run], list[Run]]:
    """The first ``at`` characters, and the rest."""
    head: list[Run] = []
    tail: list[Run] = []
    for style, text in line:
        head += [(style, text[:at])] if at > 0 else []
        tail += [(style, text[at:])] if at < len(text) else []
        at = max(0, at - len(text))
    return head, tail


def spread(start: Iterable[Run], end: Iterable[Run], width: int, fill: Run = ("", " ")) -> list[Run]:
    """``start`` flush left and ``end`` flush right; ``start`` gives way when both do not fit."""
    tail = list(end)
    room = width - cells(tail)
    if room < 1:
        return fit(tail, width)
    head = list(start)
    gap = room - cells(head)
    if gap < 0:
        return [*fit(head, room), *tail]
    return [*head, (fill[0], fill[1] * gap), *tail]


def _head(text: str, width: int) -> str:
    """As many leading characters as fit."""
    if text.isascii():
        return text[: max(0, width)]
    used = 0
    for index, sign in enumerate(text):
        used += cell_len(sign)
        if used > width:
            return text[:index]
    return text


@dataclass(frozen=True, slots=True)
class Screen:
    """One frame: ``height`` lines of ``width`` cells. Printed by any rich console, which decides on colour."""

    lines: tuple[tuple[Run, ...], ...]
    width: int

    @property
    def text(self) -> list[str]:
        """The lines without styles."""
        return ["".join(text for _, text in line) for line in self.lines]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for line in self.lines:
            for style, text in line:
                yield Segment(to_ascii(text) if options.ascii_only else text, STYLES[style])
            yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(self.width, self.width)


_SYSTEMS = {
    "standard": ColorSystem.STANDARD,
    "256": ColorSystem.EIGHT_BIT,
    "truecolor": ColorSystem.TRUECOLOR,
    "windows": ColorSystem.WINDOWS,
}


@dataclass
class Painter:
    """Turns frames into terminal bytes, only for the lines that changed since the last one.

    rich's ``Live`` was rejected: it renders a Table and rewrites the whole screen, 3 to 12 ms a frame.
    """

    console: Console
    _shown: list[tuple[Run, ...]] = field(default_factory=list)
    _codes: dict[str, tuple[str, str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        system = _SYSTEMS.get(self.console.color_system or "")
        for name, style in STYLES.items():
            plain = style.without_color if self.console.no_color else style
            before, _, after = plain.render("\0", color_system=system).partition("\0")
            self._codes[name] = (before, after)

    def forget(self) -> None:
        """The terminal lost what was on it (a resize): the next frame is painted whole."""
        self._shown = []

    def frame(self, screen: Screen) -> str:
        """The escape sequences that turn the last frame into this one; empty when they are equal."""
        fresh = not self._shown
        ascii_only = self.console.options.ascii_only
        out: list[str] = []
        for row, line in enumerate(screen.lines):
            if not fresh and row < len(self._shown) and self._shown[row] == line:
                continue
            # Erased first: where terminal and table disagree about a character's width, nothing old shines through.
            out.append(f"\x1b[{row + 1};1H\x1b[2K")
            for style, text in line:
                before, after = self._codes[style]
                out.append(f"{before}{to_ascii(text) if ascii_only else text}{after}")
        self._shown = list(screen.lines)
        if not out:
            return ""
        # A synchronised update: terminals that know it show the frame at once, the others ignore it.
        return f"\x1b[?2026h{chr(27) + '[2J' if fresh else ''}{''.join(out)}\x1b[?2026l"
