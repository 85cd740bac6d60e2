"""The reference of the command line, from click itself."""

from __future__ import annotations

from importlib import import_module

import click

from hotreload.commands import COMMANDS
from hotreload.manual.site import escape

EXIT_CODES = (
    (0, "done"),
    (1, "error"),
    (2, "usage"),
    (3, "rejected: nothing was swapped"),
    (4, "no host, or the host is gone"),
    (130, "interrupted"),
)


def body() -> str:
    """All commands."""
    contents = "".join(
        f'<tr><td><a href="#{name}">hotreload {name}</a></td><td>{escape(line)}</td></tr>'
        for name, line in COMMANDS.items()
    )
    codes = "".join(f"<tr><td>{code}</td><td>{text}</td></tr>" for code, text in EXIT_CODES)
    return f'<table>{contents}</table>\n<h2 id="exit-codes">Exit codes</h2><table>{codes}</table>\n' + "\n".join(
        _command(name) for name in COMMANDS
    )


def _command(name: str) -> str:
    command: click.Command = import_module(f"hotreload.commands.{name}").command
    context = click.Context(command, info_name=f"hotreload {name}")
    usage = command.get_usage(context).removeprefix("Usage: ")
    records = [record for parameter in command.get_params(context) if (record := parameter.get_help_record(context))]
    rows = "".join(
        f"<tr><td><code>{escape(option)}</code></td><td>{escape(text)}</td></tr>" for option, text in records
    )
    return (
        f'<h2 id="{name}">hotreload {name}</h2>\n<pre>{escape(" ".join(usage.split()))}</pre>\n'
        f"{_prose(command.help or '')}\n<table>{rows}</table>"
    )


def _prose(text: str) -> str:
    """click's help text: paragraphs, and what follows a ``\\b`` as it stands."""
    parts = []
    for paragraph in text.strip().split("\n\n"):
        if paragraph.startswith("\b\n"):
            parts.append(f"<pre>{escape(paragraph[2:])}</pre>")
        else:
            parts.append(f"<p>{escape(' '.join(paragraph.split()))}</p>")
    return "\n".join(parts)
