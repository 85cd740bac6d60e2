"""``hotreload dev``: the loop of work on a project: build on every save, swap, restart what cannot be swapped."""

from __future__ import annotations

import os
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hotreload import config, sources, speed
from hotreload.commands import COMMANDS, aside, options
from hotreload.commands.watch import WithHost, reporter, started
from hotreload.errors import EXIT_OK, ConfigError
from hotreload.model import Busy, Guard, HostOptions
from hotreload.reporters.answers import print_gains
from hotreload.reporters.jsonl import answer_schema, schema_text
from hotreload.runner import Options, Runner

if TYPE_CHECKING:
    from rich.console import Console

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
@click.option("--busy", type=options.Choice([each.value for each in Busy]),
              help="What an edit does while a build runs: queue another, restart it, or ignore the edit.")  # fmt: skip
@click.option("--restart/--no-restart", default=None, help="Start the host again when its own code changed.")
@click.option("--suggest", is_flag=True, help="Measure what would make builds faster here, in a copy, and end.")
@options.host
@options.asked
@options.debug_info
@options.as_json("Print one object a line on standard output, and nothing else there.")
@click.option("--schema", is_flag=True, help="Print the JSON schema of what --json prints, here or with --suggest.")
@click.option("--plain", is_flag=True, help="Print timestamped lines instead of the dashboard.")
@aside.options
@options.color
@click.pass_context
def command(
    context: click.Context, file: Path | None, build: str | None, watch: tuple[str, ...], busy: str | None,
    restart: bool | None, suggest: bool, wanted: tuple[str, ...], as_json: bool, schema: bool, plain: bool, color: str,
    asked: HostOptions, debug_info: bool | None, beside: aside.Asked,
) -> int:  # fmt: skip
    if schema:
        click.echo(answer_schema("suggest") if suggest else schema_text())
        return EXIT_OK
    if as_json and plain:
        raise click.UsageError("--json and --plain exclude each other")
    given: dict[str, Any] = {
        "build": build,
        "watch": tuple(str(Path(path).absolute()) for path in watch),
        "busy": Busy(busy) if busy else None,
        "restart": restart,
        "hosts": wanted,
        "host": started(context),
        **{key: value for key, value in asdict(beside).items() if value},
        "guard": True if asked.guard else None,
        "unload": None if asked.unload is None else config.QUIESCENT if asked.unload else config.NEVER,
        "debug_info": debug_info,
    }
    flags = {key: value for key, value in given.items() if value not in (None, ())}
    read = partial(config.load, Path.cwd(), dict(os.environ), flags, file=file.absolute() if file else None)
    dashboard = not as_json and not plain and options.interactive()
    coloured = dashboard and color != "never" and "NO_COLOR" not in os.environ

    for name in config.strangers(os.environ):
        click.echo(f"${name} means nothing to hotreload and is ignored", err=True)
    if suggest:
        return measure(read(), None if as_json else options.console(color))

    def reload() -> Options:
        nonlocal beside
        found = read()
        enter(found)
        known = found.config
        beside = aside.Asked(known.on_swap, known.on_reject, known.bell, known.notify)
        return replace(wanted_of(found), terminal=coloured, asked=wanted_options(asked, known))

    begun = reload()
    show = reporter(as_json=as_json, dashboard=dashboard, color=color, editor=read().config.editor)
    return Runner(begun, aside.around(show, lambda: beside, as_json=as_json), reload=reload).run()


def measure(found: config.Found, console: Console | None) -> int:
    """Prints what each lever brings to this project's builds."""
    enter(found)
    known = found.config
    if not known.build:
        raise ConfigError("E-CONFIG", "there is no build to make faster", fix="set build in hotreload.toml")
    environment = speed.environment_for_builds(known.env)
    base, gains = speed.suggest(
        found.directory, known.prepare, known.build, environment, lambda text: click.echo(text, err=True)
    )
    print_gains(base, gains, console)
    return 0


def wanted_options(asked: HostOptions, known: config.Config) -> HostOptions:
    """What hosts are asked for: what the command line says, else the configuration; its guard has the usual numbers."""
    guard = Guard() if known.guard and asked.guard is None else asked.guard
    unload = known.unload == config.QUIESCENT if known.unload and asked.unload is None else asked.unload
    return replace(asked, guard=guard, unload=unload)


def enter(found: config.Found) -> None:
    """Makes the project's directory the current one, and gives what builds and hosts inherit."""
    if not (found.config.watch or found.config.host):
        raise ConfigError(
            "E-CONFIG",
            "it is not known which build outputs to watch, nor which host to start",
            found=", ".join(map(str, found.files)) or f"no hotreload.toml in {found.directory} or above",
            fix="run `hotreload init` in your project, or `hotreload new NAME --lang LANGUAGE` for a new one",
        )
    os.environ.update(sources.for_builds(os.environ))
    os.environ.update(found.config.env)
    # Hosts refuse modules that others may write to.
    os.umask(os.umask(0o022) | 0o022)
    os.chdir(found.directory)


def wanted_of(found: config.Found) -> Options:
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
        debug_info=known.debug_info,
        awaited=found.awaited,
    )
