"""``hotreload inspect``: checks a module without running any of it."""

from __future__ import annotations

from pathlib import Path

import click

from hotreload import native
from hotreload.commands import COMMANDS, options
from hotreload.errors import EXIT_OK, EXIT_REJECTED
from hotreload.hosts import Finder
from hotreload.model import Failure, Manifest
from hotreload.reporters.answers import print_inspection


@click.command(name="inspect", help=COMMANDS["inspect"] + "\n\nExits with 3 when a host would reject it.")
@click.argument("module", type=click.Path(path_type=Path))
@click.option("--against", metavar="HOST|FILE", help="Compare its layouts with a running host's or another module's.")
@options.as_json("Print one object.")
@options.color
def command(module: Path, against: str | None, as_json: bool, color: str) -> int:
    found = native.settled(module) or native.inspect(module)
    other = layouts_of(against) if against is not None else b""
    own = found.layout if isinstance(found, Manifest) else b""
    compared = native.compare(other, own) if own and other else None
    layouts = native.layouts(own) if own else None
    print_inspection(module, found, layouts, None if as_json else options.console(color), against, compared)
    return EXIT_REJECTED if isinstance(found, Failure) or (compared and compared.refused) else EXIT_OK


def layouts_of(name: str) -> bytes:
    """The layouts of another module's file, or of the running host of that name or pid."""
    if not Path(name).is_file():
        return Finder().require([name])[0].layouts()
    found = native.settled(Path(name)) or native.inspect(Path(name))
    if isinstance(found, Failure):
        raise native.error_of(found)
    return found.layout
