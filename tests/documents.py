"""The fenced blocks of documentation, and their labels: ``<!-- LABEL -->`` on the line before a block."""

from __future__ import annotations

import os
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"(?:<!-- (?P<label>[^>]+) -->\n)?```(?P<language>\w*)\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One fenced block. ``label`` is empty where there is none."""

    label: str
    language: str
    text: str


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a Markdown text."""
    return [Block(each["label"] or "", each["language"], each["text"]) for each in _BLOCK.finditer(text)]


def reader_environment(scratch: Path, runtime: Path) -> dict[str, str]:
    """Of somebody who follows a text: `hotreload` and its Python on the path, nobody else's hosts in sight.

    Args:
        scratch: Holds the state.
        runtime: Of a short name, mode 0700: a socket's path holds 107 bytes at most.
    """
    here = os.pathsep.join([sysconfig.get_path("scripts"), str(Path(sys.executable).parent)])
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOTRELOAD")}
    return {
        **inherited,
        "PATH": f"{here}{os.pathsep}{os.environ['PATH']}",
        "XDG_RUNTIME_DIR": str(runtime),
        "XDG_STATE_HOME": str(scratch / "state"),
        "NO_COLOR": "1",
    }
