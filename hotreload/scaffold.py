"""Writes a template: the files of a new project, from those that this package ships. Never overwrites."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from hotreload.errors import HotreloadError

LANGUAGES = ("c", "cpp", "rust", "zig", "python")
KINDS: Mapping[str, tuple[str, ...]] = {
    "module": ("common", "module"),
    "host": ("common", "host"),
    "both": ("common", "module", "host", "both"),
}
"""For each kind the folders of a template that it takes; a file of a later folder replaces one of an earlier."""

_NAME = re.compile(r"[a-z][a-z0-9_-]{0,39}")
_MARK = re.compile(r"@([A-Z_]+)@")
_DOT = "dot-"
"""Begins the names of hidden files in templates: git and packagers would obey or leave out the files themselves."""


def check_name(name: str) -> None:
    """Raises HotreloadError where the name cannot be one of a file, a crate and a slot at once."""
    if not _NAME.fullmatch(name):
        near = re.sub(r"^[^a-z]+|[^a-z0-9]+$", "", re.sub(r"[^a-z0-9_]+", "-", name.lower()))[:40]
        raise HotreloadError(
            "E-USAGE",
            f"{name!r} is no name for a project",
            expected="a lower case letter, then up to 39 lower case letters, digits, _ and -",
            fix=f"call it {near}" if near else "",
        )


def files(templates: Path, language: str, kind: str, values: Mapping[str, str]) -> dict[str, str]:
    """The files of a template by their relative names, filled in.

    Args:
        templates: The directory of all templates.
        language: One of LANGUAGES.
        kind: One of KINDS.
        values: What stands for ``@KEY@``, in names too.
    """
    found: dict[str, str] = {}
    for folder in (templates / language / part for part in KINDS[kind]):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = fill(path.relative_to(folder).as_posix(), values)
                found[name.replace(_DOT, ".")] = fill(path.read_text(encoding="utf-8"), values)
    return found


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with every ``@KEY@`` of the values replaced; other signs stay."""
    return _MARK.sub(lambda found: values.get(found[1], found[0]), text)


def write(directory: Path, texts: Mapping[str, str]) -> list[Path]:
    """Writes new files, in directories that only their owner may change. Returns them.

    Raises:
        HotreloadError: ``E-EXISTS``: one of them is there already, and nothing was written; ``E-IO``.
    """
    there = [name for name in texts if os.path.lexists(directory / name)]
    if there:
        raise HotreloadError(
            "E-EXISTS",
            f"{directory / there[0]} is there already; nothing was written",
            found=", ".join(sorted(there)),
            fix="choose another name or directory, or move these files away",
        )
    # Hosts refuse modules from directories that others may write to.
    before = os.umask(0o022)
    try:
        return [_write_one(directory / name, text) for name, text in texts.items()]
    except OSError as error:
        raise HotreloadError("E-IO", f"{directory} cannot be written: {error.strerror}") from error
    finally:
        os.umask(before)


def _write_one(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:
        file.write(text)
    return path
