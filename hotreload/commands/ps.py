"""``hotreload ps``: lists the running hosts."""

from __future__ import annotations

import time

import click

from hotreload.commands import COMMANDS, options
from hotreload.hosts import Finder
from hotreload.reporters.answers import print_hosts


@click.command(name="ps", help=COMMANDS["ps"])
@options.host
@options.as_json("Print a list of objects.", schema="ps")
@options.color
def command(wanted: tuple[str, ...], as_json: bool, color: str) -> int:
    # Without a name, none at all is an answer too.
    finder = Finder()
    links = finder.require(wanted) if wanted else finder.connect()
    snapshots = [link.snapshot(time.monotonic()) for link in links]
    print_hosts(snapshots, None if as_json else options.console(color), now=time.time())
    options.tell_stopped(finder, wanted)
    return 0
