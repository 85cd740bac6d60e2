"""Every stable code: its meaning and cure in one line each, and the page that tells more.

A code has one home: the shim's status.c, or TOOL_CODES for what only the command line can meet. Its page is
``pages/codes/CODE.md``; tests/unit/test_codes.py asserts that every code has one and every page a code.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from hotreload import native
from hotreload.errors import ConfigError

PAGES = Path(__file__).resolve().parent / "pages"

TOOL_CODES = {
    "E-BUILD": ("the build command failed", "correct the error and save; everything goes on running"),
    "E-STATUS": ("an implementation returned a status other than 0", "see what the implementation means by it"),
    "E-NOT-INSTALLED": ("an optional part is not installed", "install the package that the message names"),
    "E-CONFIG": ("a configuration file or variable is wrong", "correct the key that the message names"),
    "E-EXISTS": ("a file that was to be written is there already", "choose another name, or move the file away"),
    "E-UNKNOWN": ("the host told a status that this tool does not know", "upgrade the tool"),
    "E-INTERNAL": (
        "hotreload itself has a fault",
        "report it with the line that names it; build again",
    ),
    "E-DEMO": ("the demo's example is not the one that its script edits", "undo the change under examples/"),
}


@dataclass(frozen=True, slots=True)
class Code:
    """A stable code. ``text`` says what it means, ``fix`` the general cure; both are one line."""

    name: str
    text: str
    fix: str

    @property
    def page(self) -> Path:
        """Its page, in Markdown; the first line is the code as a heading."""
        return PAGES / "codes" / f"{self.name}.md"

    def body(self) -> str:
        """Its page without the heading."""
        return self.page.read_text(encoding="utf-8").split("\n", 1)[1].strip() + "\n"


def codes() -> dict[str, Code]:
    """All codes by name, in the order of the shim's table."""
    known = {**native.statuses(), **TOOL_CODES}
    return {name: Code(name, text, fix) for name, (text, fix) in known.items()}


def find(asked: str) -> Code:
    """The code that somebody means: ``E-ABI``, ``e-abi``, ``abi`` or ``no_host``.

    Raises:
        ConfigError: There is none; the nearest one is named.
    """
    known = codes()
    name = asked.strip().upper().replace("_", "-")
    found = known.get(name) or known.get(f"E-{name}")
    if found is None:
        close = get_close_matches(name if name.startswith("E-") else f"E-{name}", known, n=1, cutoff=0.5)
        fix = f"did you mean {close[0]}?" if close else "`hotreload explain` lists all codes"
        raise ConfigError("E-USAGE", f"there is no code {asked!r}", fix=fix)
    return found
