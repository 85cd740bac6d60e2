"""``hotreload slots``: lists slots, versions and calls of the running hosts."""

from __future__ import annotations

import time

import click

from hotreload.commands import COMMANDS, options
from hotreload.hosts import Finder
from hotreload.reporters.answers import print_slots


@click.command(name="slots", help=COMMANDS["slots"])
@options.host
@options.as_json("Print a list with one object for each host.")
@options.color
def command(wanted: tuple[str, ...], as_json: bool, color: str) -> int:
    snapshots = [link.snapshot(time.monotonic()) for link in Finder().require(wanted)]
    print_slots(snapshots, None if as_json else options.console(color))
    return 0
