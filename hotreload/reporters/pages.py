"""What ``hotreload explain`` prints: codes and their pages; as JSON where no console is given."""

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


def _page(code: Code) -> str:
    """The page without the labels that tell the tests what a snippet shows."""
    return _LABELS.sub("", code.body())


def _summary(code: Code) -> dict[str, Any]:
    return {"code": code.name, "text": code.text, "fix": code.fix}


def _dump(value: Any) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
