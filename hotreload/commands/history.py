"""``hotreload history``: what was swapped and rolled back, across the lives of hosts."""

from __future__ import annotations

from pathlib import Path

import click

from hotreload.commands import COMMANDS, complete, options
from hotreload.errors import EXIT_OK
from hotreload.history import History, of_project, project_of
from hotreload.reporters.answers import print_history

SHOWN = 20
HELP = f"""{COMMANDS["history"]}

Entered is what `watch`, `load` and `rollback` do, and what `watch` sees others do. Shown are the entries of this
project: made in its directory (the nearest with hotreload.toml or a repository), or of modules that lie in it. Copies
of the newest 64 modules are kept: `hotreload rollback --to` brings them back. MODULE is a module's name.
"""


@click.command(name="history", help=HELP)
@click.argument("module", required=False, shell_complete=complete.past_modules)
@click.option("--all", "everything", is_flag=True, help="Show the entries of all projects.")
@click.option("-n", "--number", "most", type=click.IntRange(0), default=SHOWN, show_default=True, metavar="N",
              help="Show the newest N; 0 for all.")  # fmt: skip
@options.as_json("Print a list of objects.", schema="history")
@options.color
def command(module: str | None, everything: bool, most: int, as_json: bool, color: str) -> int:
    entries = History().entries()
    if not everything:
        entries = of_project(entries, project_of(Path.cwd()))
    chosen = [entry for entry in entries if module in (None, entry.module.name)]
    print_history(chosen[-most:] if most else chosen, None if as_json else options.console(color))
    return EXIT_OK
