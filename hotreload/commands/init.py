"""``hotreload init``: makes an existing project one that ``hotreload dev`` knows."""

from __future__ import annotations

import os
from pathlib import Path

import click

from hotreload import project, scaffold, sources
from hotreload.commands import COMMANDS
from hotreload.config import FILE

HELP = f"""{COMMANDS["init"]}

Cargo workspaces and CMake, Meson and Make projects are recognised, here or above in the same repository, and asked
what they build. One file is written, hotreload.toml; nothing is ever overwritten.
"""


@click.command(name="init", help=HELP)
@click.option("--host", metavar="CMD", help="The program to start, where the project builds several, or none.")
def command(host: str | None) -> int:
    os.environ.update(sources.for_builds(os.environ))
    found = project.recognise(Path.cwd())
    chosen = host or found.host
    (written,) = scaffold.write(found.directory, {FILE: project.settings(found, chosen)})
    click.echo(f"recognised: {found.tool} project in {found.directory}")
    for line in found.done:
        click.echo(line)
    click.echo(f"wrote {written}")
    click.echo(f"  build: {found.build}")
    click.echo(f"  watch: {', '.join(found.watch)}")
    click.echo(f"  host:  {chosen or 'not known; name it in the file'}")
    if found.advice:
        click.echo("to swap code instead of starting the host again, the project needs")
    for line in found.advice:
        click.echo(f"  {advise(line)}")
    click.echo("next: hotreload dev")
    return 0


def advise(line: str) -> str:
    """The line with the paths of this installation."""
    return line.replace("$(hotreload config --rust-dir)", sources.shim().rust.as_posix())
