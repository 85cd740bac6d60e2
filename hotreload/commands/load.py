"""``hotreload load``: loads modules into the running hosts, once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from hotreload.commands import COMMANDS, journal, options
from hotreload.errors import EXIT_NO_HOST
from hotreload.hosts import Finder
from hotreload.link import Link
from hotreload.model import EventKind, Host, HostOptions, Report
from hotreload.reporters.answers import print_reports
from hotreload.session import Transaction, Wanted
from hotreload.transaction import transact


@click.command(
    name="load",
    help=COMMANDS["load"] + "\n\nSeveral modules and hosts make one transaction: all of them swap or none does.",
)
@click.argument("modules", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="MODULE...")
@options.host
@options.asked
@options.as_json("Print one object for each host and module.")
@options.color
def command(modules: tuple[Path, ...], wanted: tuple[str, ...], as_json: bool, color: str, asked: HostOptions) -> int:
    finder = Finder()
    links = finder.require(wanted)
    options.tell_stopped(finder, wanted)
    for link in links:
        link.set_options(asked)
    return load(modules, links, as_json=as_json, color=color)


def load(modules: Sequence[Path], chosen: Sequence[Link], *, as_json: bool, color: str) -> int:
    """One transaction over modules and hosts; reports, and returns the exit code."""
    links = {link.host.pid: link for link in chosen}
    offer = tuple(Wanted(path, path, 0) for path in modules)
    outcomes = transact(Transaction(1, dict.fromkeys(links, offer)), links)
    answers: list[tuple[Host, Report]] = []
    code = 0
    for pid, outcome in outcomes.items():
        answers += [(links[pid].host, report) for report in outcome.reports]
        if outcome.failure and not outcome.reports:
            code = EXIT_NO_HOST
            click.echo(f"{outcome.failure.code}: {outcome.failure.reason}", err=True)
    journal.enter(answers, EventKind.SWAP)
    print_reports(answers, None if as_json else options.console(color))
    return code or options.exit_code([report for _, report in answers])
