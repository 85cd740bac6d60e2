"""``hotreload slots``: lists slots, versions and calls of the running hosts."""

from __future__ import annotations

import time
from dataclasses import replace

import click

from hotreload.commands import COMMANDS, complete, options
from hotreload.errors import HotreloadError
from hotreload.hosts import Finder
from hotreload.model import Snapshot
from hotreload.reporters.answers import print_slots


@click.command(name="slots", help=COMMANDS["slots"] + "\n\nSYMBOL is a slot's; all of them without it.")
@click.argument("symbols", nargs=-1, metavar="[SYMBOL]...", shell_complete=complete.slots)
@options.host
@options.as_json("Print a list with one object for each host.", schema="slots")
@options.color
def command(symbols: tuple[str, ...], wanted: tuple[str, ...], as_json: bool, color: str) -> int:
    finder = Finder()
    snapshots = [only(link.snapshot(time.monotonic()), symbols) for link in finder.require(wanted)]
    options.tell_stopped(finder, wanted)
    missing = sorted(set(symbols) - {slot.symbol for each in snapshots for slot in each.slots})
    if missing:
        fix = "`hotreload slots` lists them all"
        raise HotreloadError("E-NO-SLOT", f"no host has a slot {' or '.join(missing)}", fix=fix)
    print_slots(snapshots, None if as_json else options.console(color))
    return 0


def only(snapshot: Snapshot, symbols: tuple[str, ...]) -> Snapshot:
    """The snapshot with the slots asked for; with all of them when none is named."""
    if not symbols:
        return snapshot
    rows = [row for row, slot in enumerate(snapshot.slots) if slot.symbol in symbols]
    return replace(
        snapshot,
        slots=tuple(snapshot.slots[row] for row in rows),
        calls=[snapshot.calls[row] for row in rows],
        in_flight=[snapshot.in_flight[row] for row in rows],
    )
