"""Terminal bytes to named keys."""

from __future__ import annotations

import codecs
import re

# Both the normal (CSI) and the application form (SS3); the parameters of a modifier are ignored.
_SEQUENCE = re.compile(r"\x1b(?:\[([0-9;]*)([@-~])|O([@-~]))")
_UNFINISHED = re.compile(r"\x1b(?:\[[0-9;]*|O)?")
_FINAL = {"A": "up", "B": "down", "C": "right", "D": "left", "H": "home", "F": "end", "Z": "shift-tab"}
_NUMBERED = {"1": "home", "4": "end", "5": "page-up", "6": "page-down", "7": "home", "8": "end"}
_CONTROL = {"\r": "enter", "\n": "enter", "\t": "tab", "\x7f": "backspace", "\x08": "backspace"}


class Keys:
    """Decodes what a terminal sends, in pieces of any size, to characters and names such as ``up`` and ``esc``."""

    def __init__(self) -> None:
        self._text = codecs.getincrementaldecoder("utf-8")("ignore")
        self._pending = ""

    @property
    def waiting(self) -> bool:
        """Whether bytes are pending that may be an Escape key or the start of a longer sequence."""
        return bool(self._pending)

    @property
    def lone(self) -> bool:
        """Whether what is pending is an Escape byte alone, which a person may have typed."""
        return self._pending == "\x1b"

    def feed(self, data: bytes) -> list[str]:
        """The keys that ``data`` completes."""
        self._pending += self._text.decode(data)
        found: list[str] = []
        while self._pending:
            text = self._pending
            if text[0] != "\x1b":
                self._pending = text[1:]
                found.extend(_character(text[0]))
            elif match := _SEQUENCE.match(text):
                self._pending = text[match.end() :]
                found.extend(_sequence(match))
            elif _UNFINISHED.fullmatch(text):
                break
            else:  # Escape, then an ordinary key: typed fast, or Alt held; both are of use
                self._pending = text[1:]
                found.append("esc")
        return found

    def flush(self) -> list[str]:
        """Nothing more came for a while: what is pending was the Escape key, or a sequence cut short."""
        lone, self._pending = self.lone, ""
        return ["esc"] if lone else []


def _character(text: str) -> list[str]:
    if text in _CONTROL:
        return [_CONTROL[text]]
    return [text] if text.isprintable() else []


def _sequence(match: re.Match[str]) -> list[str]:
    numbers, final, application = match.groups()
    name = _NUMBERED.get(numbers.partition(";")[0]) if final == "~" else _FINAL.get(final or application)
    return [name] if name else []
