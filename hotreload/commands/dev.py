"""``hotreload dev``: the loop of work on a project: build on every save, swap, restart what cannot be swapped."""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from hotreload import config, sources
from hotreload.commands import COMMANDS, aside, options
from hotreload.commands.watch import WithHost, reporter, started
from hotreload.errors import ConfigError
from hotreload.model import Busy
from hotreload.runner import Options, Runner

HELP = f"""{COMMANDS["dev"]}

What to build, watch and start is read from hotreload.toml, here or above (also [tool.hotreload] of a pyproject.toml
and [package.metadata.hotreload] of a Cargo.toml), and read again when that changes. HOST ARG... after -- replaces its
host. `hotreload new` and `hotreload init` write one.
"""


@click.command(name="dev", cls=WithHost, help=HELP, options_metavar="[OPTIONS]")
@click.option("--config", "file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
              help="Read this file instead of looking for one.")  # fmt: skip
@click.option("--build", metavar="CMD", help="Run this shell command when sources change.")
@click.option("--watch", multiple=True, metavar="PATH", help="Where build outputs appear; may be given several times.")
@click.option("--busy", type=click.Choice([each.value for each in Busy]),
              help="What an edit does while a build runs: queue another, restart it, or ignore the edit.")  # fmt: skip
@click.option("--restart/--no-restart", default=None, help="Start the host again when its own code changed.")
@options.host
@aside.options
@options.as_json("Print one object a line on standard output, and nothing else there.")
@click.option("--plain", is_flag=True, help="Print timestamped lines instead of the dashboard.")
@options.color
@click.pass_context
def command(
    context: click.Context, file: Path | None, build: str | None, watch: tuple[str, ...], busy: str | None,
    restart: bool | None, wanted: tuple[str, ...], as_json: bool, plain: bool, color: str, beside: aside.Asked,
) -> int:  # fmt: skip
    if as_json and plain:
        raise click.UsageError("--json and --plain exclude each other")
    given: dict[str, Any] = {
        "build": build,
        "watch": tuple(str(Path(path).absolute()) for path in watch),
        "busy": Busy(busy) if busy else None,
        "restart": restart,
        "hosts": wanted,
        "host": started(context),
        **{key: value or None for key, value in asdict(beside).items()},
    }
    flags = {key: value for key, value in given.items() if value not in (None, ())}
    start, environment = Path.cwd(), dict(os.environ)
    dashboard = not as_json and not plain and options.interactive()

    def read() -> Options:
        nonlocal beside
        found = config.load(start, environment, flags, file=file)
        enter(found)
        known = found.config
        beside = aside.Asked(known.on_swap, known.on_reject, known.bell, known.notify)
        return replace(asked(found), terminal=dashboard and color != "never" and "NO_COLOR" not in environment)

    editor = config.load(start, environment, flags, file=file).config.editor
    show = reporter(as_json=as_json, dashboard=dashboard, color=color, editor=editor)
    return Runner(read(), aside.around(show, lambda: beside), reload=read).run()


def enter(found: config.Found) -> None:
    """Makes the project's directory the current one, and gives what builds and hosts inherit."""
    if not (found.config.watch or found.config.host):
        raise ConfigError(
            "E-CONFIG",
            "it is not known which build outputs to watch, nor which host to start",
            found=", ".join(map(str, found.files)) or f"no hotreload.toml in {found.directory} or above",
            fix="run `hotreload init` in your project, or `hotreload new NAME --lang LANGUAGE` for a new one",
        )
    # Makefiles of the templates ask this very program for its flags, not a `hotreload` that the PATH may have.
    os.environ.setdefault("HOTRELOAD", f"{shlex.quote(sys.executable)} -m hotreload")
    os.environ.setdefault("hotreload_DIR", str(sources.shim().cmake))
    os.environ.update(found.config.env)
    # Hosts refuse modules that others may write to.
    os.umask(os.umask(0o022) | 0o022)
    os.chdir(found.directory)


def asked(found: config.Found) -> Options:
    """What the runner is to do."""
    known = found.config
    return Options(
        paths=tuple(map(Path, known.watch)),
        hosts=known.hosts,
        build=known.build or None,
        command=known.host,
        poll=known.poll,
        sources=tuple(map(Path, known.sources)),
        prepare=known.prepare,
        busy=known.busy,
        restart=known.restart,
        restart_on=tuple(map(Path, known.restart_on)),
        awaited=found.awaited,
    )
