"""``hotreload rollback``: takes back the newest swap, or one module; or brings back a version of the history."""

from __future__ import annotations

from pathlib import Path

import click

from hotreload import native
from hotreload.commands import COMMANDS, complete, journal, options
from hotreload.errors import NoHost
from hotreload.history import History, choose, of_project, project_of
from hotreload.hosts import Finder
from hotreload.link import Link
from hotreload.model import EventKind, Host, Manifest, Report
from hotreload.reporters.answers import print_reports

HELP = f"""{COMMANDS["rollback"]}

MODULE is a module's name. Its content is quarantined: the host refuses it from then on.

With --to, a version that has run before is loaded again, as `hotreload load` would, into the hosts that have its slots:
3 or v3 is that version of the module's manifest, a1f3c09e an id, #12 an entry of `hotreload history`. Where no manifest
has that version, 12 is that entry, and v3 what brought a slot to its version 3, as screens show it. Content that is
quarantined in a host stays refused there.
"""


@click.command(name="rollback", help=HELP)
@click.argument("module", required=False, shell_complete=complete.modules)
@click.option("--to", "version", metavar="VERSION", shell_complete=complete.versions,
              help="Bring back this version of the history.")  # fmt: skip
@options.host
@options.as_json("Print one object for each host and module.")
@options.color
def command(module: str | None, version: str | None, wanted: tuple[str, ...], as_json: bool, color: str) -> int:
    if version is not None:
        return bring_back(module, version, wanted, as_json=as_json, color=color)
    answers: list[tuple[Host, Report]] = []
    for link in Finder().require(wanted):
        answers += [(link.host, report) for report in link.rollback(module).reports]
    journal.enter(answers, EventKind.ROLLBACK)
    print_reports(answers, None if as_json else options.console(color), EventKind.ROLLBACK)
    return options.exit_code([report for _, report in answers])


def bring_back(module: str | None, version: str, wanted: tuple[str, ...], *, as_json: bool, color: str) -> int:
    """Loads a retained module; returns the exit code."""
    from hotreload.commands.load import load  # and all of the runner: not for every roll back, or every completion

    everything = History().entries()
    here = of_project(everything, project_of(Path.cwd()))
    entry = choose(everything if version.startswith("#") else here or everything, module, version)
    assert entry.retained is not None
    return load([entry.retained], concerned(entry.retained, wanted), as_json=as_json, color=color)


def concerned(path: Path, wanted: tuple[str, ...]) -> list[Link]:
    """The hosts that have one of the module's slots. Raises NoHost."""
    found = native.inspect(path)
    symbols = set(found.symbols) if isinstance(found, Manifest) else set[str]()
    links = Finder().require(wanted)
    chosen = [link for link in links if symbols & {slot.symbol for slot in link.snapshot(0.0).slots}]
    if not chosen:
        raise NoHost("E-NO-HOST", "no running host has a slot of this module", fix="see `hotreload slots`")
    return chosen
