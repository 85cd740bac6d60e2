"""What shell completion offers for arguments: codes by their names."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def code_names(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Codes; also without their E-."""
    from hotreload.codes import codes

    wanted = incomplete.upper()
    begin = wanted if wanted.startswith("E") else f"E-{wanted}"
    return [CompletionItem(name, help=code.text) for name, code in codes().items() if name.startswith(begin)]
