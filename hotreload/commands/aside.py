"""Options for what happens beside a session: hooks, the bell, notifications. The journal always is."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from hotreload.commands.options import Function
from hotreload.model import EventKind
from hotreload.reporters import Reporter
from hotreload.reporters.wording import LOUD
from hotreload.session import Event, Note

Make = Callable[[Callable[[Event], None]], Reporter]


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked for; nothing by default."""

    on_swap: str = ""
    on_reject: str = ""
    bell: bool = False
    notify: bool = False


def options(function: Function) -> Function:
    """``--on-swap``, ``--on-reject``, ``--bell``, ``--notify``, handed on as ``beside: Asked``."""
    told = "HR_EVENT, HR_HOST, HR_MODULE, HR_VERSION, HR_CODE ... tell of it, standard input is the JSON event."
    choices = (
        click.option("--on-swap", metavar="CMD", default="", help=f"Run this shell command after every swap. {told}"),
        click.option("--on-reject", metavar="CMD", default="", help="Run this shell command after every refusal."),
        click.option("--bell", is_flag=True, help="Ring the terminal's bell at swaps and refusals."),
        click.option("--notify", is_flag=True, help="Show swaps and refusals on the desktop, or by the terminal."),
    )

    @functools.wraps(function)
    def with_options(*arguments: Any, on_swap: str, on_reject: str, bell: bool, notify: bool, **others: Any) -> Any:
        return function(*arguments, beside=Asked(on_swap, on_reject, bell, notify), **others)

    for choice in reversed(choices):
        with_options = choice(with_options)
    return with_options  # type: ignore[return-value]


def around(make: Make, asked: Callable[[], Asked], *, as_json: bool) -> Make:
    """The same reporter, and beside it the journal and what is asked for at the moment. What goes wrong with these is a
    note; with JSON, which has no notes, a line on standard error."""
    from hotreload.history import project_of
    from hotreload.reporters.aside import Bell, Hooks, Journal, Notifier
    from hotreload.reporters.several import Several

    def both(send: Callable[[Event], None]) -> Reporter:
        def tell(text: str) -> None:
            send(Note(text))
            if as_json:
                click.echo(text, err=True)

        def hook(kind: EventKind) -> tuple[str, str]:
            if kind is EventKind.SWAP:
                return "on_swap", asked().on_swap
            return "on_reject", asked().on_reject if kind in LOUD else ""

        return Several(
            make(send),
            Journal(tell, project_of(Path.cwd())),
            Hooks(hook, tell),
            Bell(tell, lambda: asked().bell),
            Notifier(tell, lambda: asked().notify),
        )

    return both
