"""What ``hotreload explain`` and ``doctor`` print: codes, their pages, checks; as JSON where no console is given."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from hotreload.codes import Code
from hotreload.doctor import Check, Level
from hotreload.reporters.wording import clean

WIDTH = 100
_LABELS = re.compile(r"^<!--.*?-->\n", re.MULTILINE)


def print_codes(codes: Sequence[Code], console: Console | None) -> None:
    """One line for each code."""
    if console is None:
        _dump([_summary(code) for code in codes])
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("CODE", no_wrap=True)
    table.add_column("WHEN")
    for code in codes:
        table.add_row(code.name, code.text)
    console.print(table)


def print_code(code: Code, console: Console | None) -> None:
    """A code's meaning, its page and its cure. A pipe receives the page as it was written."""
    if console is None:
        _dump({**_summary(code), "page": _page(code)})
        return
    console.print(Text.assemble((code.name, "bold"), f": {code.text}\n"), soft_wrap=True)
    if console.is_terminal:
        console.print(Markdown(_page(code)), width=min(WIDTH, console.width))
    else:
        console.file.write(_page(code))
    console.print(f"\nin short: {code.fix}", soft_wrap=True)


_STYLES = {Level.OK: "green", Level.WARN: "yellow", Level.FAIL: "bold red"}


def print_checks(checks: Sequence[Check], console: Console | None) -> None:
    """One line for each check, and one more for its cure."""
    if console is None:
        _dump([{"check": c.name, "state": c.level.value, "found": c.found, "fix": c.fix} for c in checks])
        return
    width = max(len(check.name) for check in checks)
    for check in checks:
        level = (f"{check.level.value:<4}", _STYLES[check.level])
        console.print(Text.assemble(level, f"  {clean(check.name):<{width}}  {clean(check.found)}"), soft_wrap=True)
        if check.fix:
            console.print(Text(f"{'':<{width + 6}}  cure: {clean(check.fix)}"), soft_wrap=True)
    bad = sum(check.level is Level.FAIL for check in checks)
    warnings = sum(check.level is Level.WARN for check in checks)
    console.print(f"{bad} failed, {warnings} to look at, {len(checks) - bad - warnings} fine")


def _page(code: Code) -> str:
    """The page without the labels that tell the tests what a snippet shows."""
    return _LABELS.sub("", code.body())


def _summary(code: Code) -> dict[str, Any]:
    return {"code": code.name, "text": code.text, "fix": code.fix}


def _dump(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
