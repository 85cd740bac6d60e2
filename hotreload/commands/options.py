"""Options that several commands share."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hotreload.commands import complete
from hotreload.errors import EXIT_ERROR, EXIT_NO_HOST, EXIT_OK, EXIT_REJECTED
from hotreload.model import OK, SAME, Guard, HostOptions, Report

if TYPE_CHECKING:
    from rich.console import Console

    from hotreload.hosts import Finder

Function = TypeVar("Function", bound=Callable[..., Any])

PIPE_WIDTH = 1000
"""Columns where no terminal limits them: whoever reads a pipe wants whole names."""

NO_HOST_CODES = frozenset({"E-NO-HOST", "E-HOST-GONE"})


class Choice(click.Choice):  # type: ignore[type-arg, unused-ignore]
    """One of several words; a wrong one is told with the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            close = get_close_matches(str(value).lower(), map(str, self.choices), n=1)
            if not close:
                raise
            raise click.BadParameter(f"{error.message} Did you mean {close[0]!r}?", ctx, param) from None


def host(function: Function) -> Function:
    """``--host NAME|PID``, as often as wanted."""
    text = "Only this host, by name or pid; may be given several times."
    return click.option(
        "--host", "wanted", multiple=True, metavar="NAME|PID", shell_complete=complete.hosts, help=text
    )(function)


def asked(function: Function) -> Function:
    """What hosts are asked for (``--guard`` and its numbers, ``--unload``), handed on as ``asked: HostOptions``."""
    positive = click.FloatRange(min=0, min_open=True)
    choices = (
        click.option(
            "--sample", is_flag=True, help="Time one call in 256: p50 and p99 of each version, beside the one before."
        ),
        click.option("--sample-every", metavar="N", type=click.IntRange(min=1), help="Time one call in N."),
        click.option("--trial", is_flag=True, help="Try a patch in a forked copy of the host before it is swapped in."),
        click.option(
            "--trial-seconds", metavar="S", type=positive, help="How long a trial waits for a call, and its end."
        ),
        click.option("--guard", is_flag=True, help="Roll back a patch that crashes or hangs after its swap."),
        click.option("--guard-calls", metavar="N", type=click.IntRange(min=1), help="Guard a slot's first N calls."),
        click.option("--guard-seconds", metavar="S", type=positive, help="Guard a slot for S seconds."),
        click.option("--hang-seconds", metavar="S", type=positive, help="A guarded call of more than S seconds hangs."),
        click.option(
            "--unload/--no-unload", default=None, help="Unmap replaced modules once nothing points into them."
        ),
        click.option("--budget", metavar="MIB", type=positive, help="Warn when old modules take more memory."),
    )

    @functools.wraps(function)
    def with_options(
        *arguments: Any, guard: bool, guard_calls: int | None, guard_seconds: float | None,
        hang_seconds: float | None, sample: bool, sample_every: int | None,
        trial: bool, trial_seconds: float | None, unload: bool | None, budget: float | None, **others: Any,
    ) -> Any:  # fmt: skip
        numbers = (guard_calls, guard_seconds, hang_seconds)
        wanted = Guard(guard_calls or 0, guard_seconds or 0.0, hang_seconds or 0.0)
        on = guard or any(number is not None for number in numbers)
        every = sample_every or (0 if sample else None)
        tried = trial_seconds or (0.0 if trial else None)
        limit = None if budget is None else round(budget * 1024 * 1024)
        return function(*arguments, asked=HostOptions(wanted if on else None, every, tried, unload, limit), **others)

    for choice in reversed(choices):
        with_options = choice(with_options)
    return with_options  # type: ignore[return-value]


def tell_stopped(finder: Finder, wanted: tuple[str, ...]) -> None:
    """Says on standard error which hosts were left out because they stand still, where all were wanted."""
    for pid in () if wanted else finder.stopped():
        click.echo(f"host {pid} is stopped, by a signal or a debugger, and was left out: kill -CONT {pid}", err=True)


def debug_info(function: Function) -> Function:
    """``--debug-info/--no-debug-info``, handed on as ``debug_info``: None where neither is given."""
    text = "Compare types by debug info (-g) where host and module describe none; on by default."
    return click.option("--debug-info/--no-debug-info", default=None, help=text)(function)


def as_json(text: str, schema: str = "") -> Callable[[Function], Function]:
    """``--json``; with ``schema``, the name of what it prints in the published schemas, also ``--schema``."""
    option = click.option("--json", "as_json", is_flag=True, help=text)
    if not schema:
        return option

    def show(context: click.Context, _: click.Parameter, asked: bool) -> None:
        if asked:
            from hotreload.reporters.jsonl import answer_schema

            click.echo(answer_schema(schema))
            context.exit()

    text = "Print the JSON schema of what --json prints, and exit."
    published = click.option("--schema", is_flag=True, is_eager=True, expose_value=False, callback=show, help=text)
    return lambda function: option(published(function))


def color(function: Function) -> Function:
    """``--color auto|always|never``; NO_COLOR is honoured by auto."""
    kind = Choice(["auto", "always", "never"])
    return click.option("--color", type=kind, default="auto", show_default=True, help="Colour the output.")(function)


def console(color: str, *, error: bool = False) -> Console:
    """A console for standard output (or error), imported only where one is needed."""
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    return Console(
        stderr=error,
        force_terminal=True if color == "always" else None,
        no_color=True if color == "never" else None,
        highlight=False,
        width=None if stream.isatty() else PIPE_WIDTH,
    )


def exit_code(reports: list[Report]) -> int:
    """0 when all swapped or ran already, 3 when any was refused, 4 when its host was gone, 1 for the rest."""
    bad = [report.code for report in reports if report.code not in (OK, SAME)]
    if not bad:
        return EXIT_OK
    if any(code in NO_HOST_CODES for code in bad):
        return EXIT_NO_HOST
    return EXIT_ERROR if all(code in ("E-NO-PREVIOUS", "E-PROTOCOL", "E-MEMORY") for code in bad) else EXIT_REJECTED


def interactive() -> bool:
    """A person is at both ends: a screen to draw on and keys to press."""
    return sys.stdout.isatty() and sys.stdin.isatty()
