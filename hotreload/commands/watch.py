"""``hotreload watch``: watches build outputs and swaps every good one into the running hosts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import click

from hotreload.commands import COMMANDS, aside, options
from hotreload.model import HostOptions
from hotreload.reporters import Reporter
from hotreload.runner import Options, Runner
from hotreload.session import Command, Note


class WithHost(click.Command):
    """Everything after ``--`` is the host to start, options and all."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if "--" in args:
            at = args.index("--")
            ctx.meta[__name__] = tuple(args[at + 1 :])
            args = args[:at]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- HOST ARG...]"]


@click.command(
    name="watch",
    cls=WithHost,
    help=COMMANDS["watch"]
    + "\n\nPATH is a directory of build outputs, or a module. HOST ARG... after -- is started, and ended at the end.",
    options_metavar="[OPTIONS]",
)
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(path_type=Path))
@options.host
@click.option("--build", metavar="CMD", help="Run this shell command when sources change; swap what it built.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where --build looks for changed sources; the current directory by default.",
)
@options.asked
@options.debug_info
@options.as_json("Print one object a line on standard output, and nothing else there.")
@click.option("--plain", is_flag=True, help="Print timestamped lines instead of the dashboard.")
@click.option("--no-existing", is_flag=True, help="Leave what was built before alone.")
@click.option("--poll", is_flag=True, help="Look for outputs four times a second instead of asking the kernel.")
@aside.options
@options.color
@click.pass_context
def command(
    context: click.Context, paths: tuple[Path, ...], wanted: tuple[str, ...], build: str | None,
    sources: tuple[Path, ...], as_json: bool, plain: bool, no_existing: bool, poll: bool, color: str,
    asked: HostOptions, debug_info: bool | None, beside: aside.Asked,
) -> int:  # fmt: skip
    if as_json and plain:
        raise click.UsageError("--json and --plain exclude each other")
    dashboard = not as_json and not plain and options.interactive()
    session = Options(
        paths=paths, hosts=wanted, build=build, command=started(context), existing=not no_existing, poll=poll,
        sources=sources, stay=dashboard, asked=asked, debug_info=debug_info is not False,
    )  # fmt: skip
    return Runner(
        session,
        aside.around(reporter(as_json=as_json, dashboard=dashboard, color=color), lambda: beside, as_json=as_json),
    ).run()


def started(context: click.Context) -> tuple[str, ...]:
    """The host that the command line names after ``--``; empty without one."""
    words: tuple[str, ...] = context.meta.get(__name__, ())
    if __name__ in context.meta and not words:
        raise click.UsageError("name the host to start after --")
    return words


def reporter(
    *, as_json: bool, dashboard: bool, color: str, editor: str = ""
) -> Callable[[Callable[[Command | Note], None]], Reporter]:
    """The way to make the reporter that suits the output."""

    def make(send: Callable[[Command | Note], None]) -> Reporter:
        if as_json:
            from hotreload.reporters.jsonl import JsonReporter

            return JsonReporter(sys.stdout)
        console = options.console(color)
        if not dashboard:
            from hotreload.reporters.plain import PlainReporter

            return PlainReporter(console)
        from hotreload.reporters.dashboard import Dashboard

        return Dashboard(console, sys.stdin.fileno(), send, editor=editor)

    return make
