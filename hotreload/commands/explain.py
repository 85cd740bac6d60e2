"""``hotreload explain``: what a code means, why there is one, and what to do."""

from __future__ import annotations

import click

from hotreload import codes
from hotreload.commands import COMMANDS, complete, options
from hotreload.errors import EXIT_OK
from hotreload.reporters.pages import print_code, print_codes


@click.command(
    name="explain",
    help=COMMANDS["explain"] + "\n\nCODE is what every refusal shows: E-ABI, or just abi. Without it: all codes.",
)
@click.argument("code", required=False, shell_complete=complete.codes)
@options.as_json("Print an object, or a list of them.", schema="explain")
@options.color
def command(code: str | None, as_json: bool, color: str) -> int:
    console = None if as_json else options.console(color)
    if code is None:
        print_codes(list(codes.codes().values()), console)
    else:
        print_code(codes.find(code), console)
    return EXIT_OK
