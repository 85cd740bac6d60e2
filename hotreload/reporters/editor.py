"""How an editor is told to open a file at a place."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path

_FORMS = {
    "vi": "+{line} {file}",
    "vim": "'+call cursor({line},{column})' {file}",
    "nano": "+{line},{column} {file}",
    "emacs": "+{line}:{column} {file}",
    "code": "--goto {file}:{line}:{column}",
    "subl": "{file}:{line}:{column}",
    "kak": "{file} +{line}:{column}",
}
_ALIKE = {
    **dict.fromkeys(("nvim", "gvim"), "vim"),
    **dict.fromkeys(("emacsclient", "micro", "mg", "jed"), "emacs"),
    **dict.fromkeys(("codium", "cursor", "windsurf", "code-insiders"), "code"),
    **dict.fromkeys(("hx", "helix", "zed", "zeditor", "lapce", "mate"), "subl"),
}


def command(template: str, environment: Mapping[str, str], file: str, line: int, column: int) -> list[str]:
    """The words that open a file.

    Args:
        template: With {file}, {line} and {column}; or an editor's name; empty for $VISUAL, $EDITOR, or vi.
        environment: Of the process.
        file: The path.
        line: From 1.
        column: From 1.
    """
    template = template or environment.get("VISUAL") or environment.get("EDITOR") or "vi"
    if "{file}" not in template:
        name = Path((shlex.split(template) or ["vi"])[0]).name
        template = f"{template} {_FORMS.get(_ALIKE.get(name, name), _FORMS['vi'])}"
    values = {"{file}": file, "{line}": str(max(1, line)), "{column}": str(max(1, column))}
    words = shlex.split(template)
    for sign, value in values.items():
        words = [word.replace(sign, value) for word in words]
    return words
