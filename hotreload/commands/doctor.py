"""``hotreload doctor``: what of this machine helps or hinders, each with a cure."""

from __future__ import annotations

from pathlib import Path

import click

from hotreload import __version__, doctor
from hotreload.commands import COMMANDS, options
from hotreload.errors import EXIT_ERROR, EXIT_OK
from hotreload.reporters.pages import print_checks

HELP = f"""{COMMANDS["doctor"]}

Compilers and linkers, one whole swap in a process of its own, inotify, membarrier, leases, file systems, permissions
and limits. DIRECTORY is where build outputs go, the current one by default. Nothing is changed. Exits with 1 when
something keeps hotreload from working; what only slows it down, or will be refused later, is a warning.
"""


@click.command(name="doctor", help=HELP)
@click.argument("directories", nargs=-1, metavar="[DIRECTORY]...", type=click.Path(path_type=Path))
@options.as_json("Print a list of objects.", schema="doctor")
@options.color
def command(directories: tuple[Path, ...], as_json: bool, color: str) -> int:
    checks = list(doctor.examine(__version__, directories or (Path.cwd(),)))
    print_checks(checks, None if as_json else options.console(color))
    return EXIT_ERROR if any(check.level is doctor.Level.FAIL for check in checks) else EXIT_OK
