"""``hotreload events``: what has happened in the running hosts, and what happens from now on."""

from __future__ import annotations

import sys
import time

import click

from hotreload.commands import COMMANDS, options
from hotreload.errors import EXIT_OK
from hotreload.follower import Follower
from hotreload.hosts import Finder
from hotreload.model import Record
from hotreload.reporters import Reporter
from hotreload.reporters.jsonl import JsonReporter, schema_text
from hotreload.reporters.plain import PlainReporter

LOOK_SECONDS = 0.05
HELP = f"""{COMMANDS["events"]}

Each host remembers its last 1,024 events, whoever caused them; --follow goes on with those that come, also of hosts
that start later. --json prints the same objects as `hotreload watch --json`, which --schema describes.
"""


@click.command(name="events", help=HELP)
@options.host
@click.option("--follow", "-f", is_flag=True, help="Go on until interrupted.")
@options.as_json("Print one object a line, and nothing else on standard output.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of these objects, and exit.")
@options.color
def command(wanted: tuple[str, ...], follow: bool, as_json: bool, schema: bool, color: str) -> int:
    if schema:
        click.echo(schema_text(), nl=False)
        return EXIT_OK
    reporter: Reporter = JsonReporter(sys.stdout) if as_json else PlainReporter(options.console(color))
    return keep_telling(wanted, reporter) if follow else tell(past(wanted), reporter)


def past(wanted: tuple[str, ...]) -> list[Record]:
    """All that the hosts remember, oldest first. Raises NoHost."""
    links = Finder().require(wanted)
    for link in links:
        link.rewind()
    return sorted((record for link in links for record in link.foreign_events()), key=lambda record: record.time)


def tell(records: list[Record], reporter: Reporter) -> int:
    for record in records:
        reporter.record(record)
    return EXIT_OK


def keep_telling(wanted: tuple[str, ...], reporter: Reporter) -> int:
    follower = Follower(wanted, trouble=lambda text: click.echo(text, err=True))
    try:
        while not reporter.broken:
            tell(follower.look(), reporter)
            follower.wait(LOOK_SECONDS) if follower.links else time.sleep(LOOK_SECONDS)
        return EXIT_OK
    finally:
        follower.close()
