"""``hotreload rollback``: takes back the newest swap, or one module."""

from __future__ import annotations

import click

from hotreload.commands import COMMANDS, complete, options
from hotreload.hosts import Finder
from hotreload.model import EventKind, Host, Report
from hotreload.reporters.answers import print_reports


@click.command(
    name="rollback",
    help=COMMANDS["rollback"]
    + "\n\nMODULE is a module's name. Its content is quarantined: the host refuses it from then on.",
)
@click.argument("module", required=False, shell_complete=complete.modules)
@options.host
@options.as_json("Print one object for each host and module.")
@options.color
def command(module: str | None, wanted: tuple[str, ...], as_json: bool, color: str) -> int:
    answers: list[tuple[Host, Report]] = []
    for link in Finder().require(wanted):
        answers += [(link.host, report) for report in link.rollback(module).reports]
    print_reports(answers, None if as_json else options.console(color), EventKind.ROLLBACK)
    return options.exit_code([report for _, report in answers])
