"""``hotreload inspect``: checks a module without running any of it."""

from __future__ import annotations

from pathlib import Path

import click

from hotreload import native
from hotreload.commands import COMMANDS, options
from hotreload.errors import EXIT_OK, EXIT_REJECTED
from hotreload.model import Failure
from hotreload.reporters.answers import print_inspection


@click.command(name="inspect", help=COMMANDS["inspect"] + "\n\nExits with 3 when a host would reject it.")
@click.argument("module", type=click.Path(path_type=Path))
@options.as_json("Print one object.")
@options.color
def command(module: Path, as_json: bool, color: str) -> int:
    found = native.settled(module) or native.inspect(module)
    print_inspection(module, found, None if as_json else options.console(color))
    return EXIT_REJECTED if isinstance(found, Failure) else EXIT_OK
