"""``hotreload demo``: an example in a scratch directory, which changes while it runs."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from pathlib import Path

import click

from hotreload import demo, sources
from hotreload.commands import COMMANDS, options
from hotreload.commands.watch import reporter
from hotreload.director import Director
from hotreload.errors import EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK
from hotreload.model import EventKind, Record
from hotreload.runner import Options, Runner
from hotreload.session import Note
from hotreload.workshop import Workshop

HELP = f"""{COMMANDS["demo"]}

An example is copied into a scratch directory and built. Its program is started under the dashboard, and its source is
then edited by itself: a good edit, another ABI, a truncated file, a compile error, a roll back. It ends within a
minute, with exit code 0 only if all of it was seen to do what it should.
"""

SOCKET_DIRECTORY_MAX = 64
"""Bytes of a runtime directory that leave room for a socket's name, also a temporary one, in the 107 of the system."""


@click.command(name="demo", help=HELP)
@click.option("--example", "name", type=options.Choice(list(demo.EXAMPLES)), default="counter-c", show_default=True,
              help="What to show.")  # fmt: skip
@click.option("--manual", is_flag=True, help="Leave the editing to you: every save is built and swapped.")
@click.option("--keep", is_flag=True, help="Keep the scratch directory.")
@click.option("--plain", is_flag=True, help="Print timestamped lines instead of the dashboard.")
@options.color
def command(name: str, *, manual: bool, keep: bool, plain: bool, color: str) -> int:
    scratch = Path(tempfile.mkdtemp(prefix="hotreload-demo-"))
    try:
        example = demo.EXAMPLES[name]
        workshop = Workshop(example, sources.examples(), sources.shim().rust, scratch / name)
        click.echo(f"building {name} in {workshop.directory}")
        dashboard = options.interactive() and not plain
        if not manual:
            hide(scratch)
        with workshop.entered():
            workshop.prepare()
            return present(workshop, manual=manual, dashboard=dashboard, color=color)
    finally:
        if keep:
            click.echo(f"kept: {scratch / name}")
        else:
            shutil.rmtree(scratch, ignore_errors=True)


def hide(scratch: Path) -> None:
    """Keeps the demo's host from other watchers of this user: one of them may well watch a build of the same example,
    and would swap that in. Not where the path would be too long for a socket.
    """
    if len(str(scratch)) <= SOCKET_DIRECTORY_MAX:
        os.environ["XDG_RUNTIME_DIR"] = str(scratch)


def present(workshop: Workshop, *, manual: bool, dashboard: bool, color: str) -> int:
    """Runs the session, and the script unless ``manual``. Returns the exit code."""
    example = workshop.example
    asked = Options(
        paths=(Path(example.module).parent,),
        build=shlex.join(example.build),
        command=(example.host,),
        stay=dashboard,
    )
    runner = Runner(
        asked,
        reporter(as_json=False, dashboard=dashboard, color=color),
        observe=lambda record: invite(record) if manual else director.observe(record),
    )

    def log() -> Path | None:
        return runner.state.child.log if runner.state.child else None

    director = Director(workshop, demo.UNHURRIED if dashboard else demo.BRISK, log, runner.send)

    def invite(record: Record) -> None:
        # Not before the host runs: all that is said until then would push it out of sight.
        if record.kind is EventKind.ATTACH:
            runner.send(Note(f"edit {workshop.source}: every save is built and swapped"))

    if manual:
        return runner.run()
    director.start()
    try:
        runner.run()
    finally:
        director.stop()
    return report(director.play)


def report(play: demo.Play) -> int:
    """Prints how the scenes ended. Returns the exit code."""
    width = shutil.get_terminal_size((options.PIPE_WIDTH, 0)).columns
    for outcome in play.outcomes:
        text = f"{'ok    ' if outcome.passed else 'FAILED'}  {outcome.title}: {outcome.seen}"
        click.echo(click.wrap_text(text, width, subsequent_indent=" " * 8))
    if play.phase is not demo.Phase.OVER:
        click.echo("ended before the script did")
        return EXIT_INTERRUPTED
    return EXIT_OK if play.passed else EXIT_ERROR
