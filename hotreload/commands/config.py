"""``hotreload config``: what a host in C, C++, CMake, Meson or Rust is built with."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import click

from hotreload import sources
from hotreload.commands import COMMANDS, options


def _libs(shim: sources.Shim, asked: tuple[str, ...]) -> list[str]:
    return shim.system_libs() if "sources" in asked else shim.libs()


ANSWERS: dict[str, tuple[str, Callable[[sources.Shim, tuple[str, ...]], list[str]]]] = {
    "cflags": ("Flags to compile with.", lambda shim, _: shim.cflags()),
    "libs": (
        "Flags to link with libhotreload.a, which needs nothing at run time. With --sources: what those need.",
        _libs,
    ),
    "sources": (
        "The shim's C files, to compile into a C host with its own flags (sanitizers, LTO).",
        lambda shim, _: [str(path) for path in shim.sources],
    ),
    "include-dir": ("The directory of the headers.", lambda shim, _: [str(shim.include)]),
    "cmake-dir": (
        "For CMake: -Dhotreload_DIR=..., find_package(hotreload), target hotreload::hotreload.",
        lambda shim, _: [str(shim.cmake)],
    ),
    "pkg-config-dir": (
        "For pkg-config and Meson: PKG_CONFIG_PATH=..., dependency('hotreload').",
        lambda shim, _: [str(shim.pkg_config())],
    ),
    "rust-dir": ("For Cargo: hotreload = { path = ... }.", lambda shim, _: [str(shim.rust)]),
}
"""Option to its help and its words."""


def _remember(context: click.Context, option: click.Parameter, given: bool) -> None:
    # click runs callbacks in the order of the command line, the one thing that parsed values no longer tell.
    if given:
        context.meta.setdefault(__name__, []).append(str(option.name).replace("_", "-"))


def _with_answers(command: Callable[..., int]) -> Callable[..., int]:
    for name, (text, _) in reversed(ANSWERS.items()):
        command = click.option(f"--{name}", is_flag=True, expose_value=False, callback=_remember, help=text)(command)
    return command


HELP = f"""{COMMANDS["config"]}

All that is asked for comes on one line, in the order asked, quoted for a shell where a path needs it.

\b
  cc host.c $(hotreload config --cflags --libs)
  cc host.c $(hotreload config --cflags --sources --libs)
  cmake -Dhotreload_DIR=$(hotreload config --cmake-dir) ...
  eval cc host.c $(hotreload config --cflags --libs)    where a path has spaces

C++ hosts take --libs: their compiler would read --sources as C++.
"""


@click.command(name="config", help=HELP)
@_with_answers
@options.as_json("Print an object of lists; all of them when none is named.", schema="config")
@click.pass_context
def command(context: click.Context, as_json: bool) -> int:
    asked = tuple(context.meta.get(__name__, ()))
    if not asked and not as_json:
        raise click.UsageError("name at least one of " + ", ".join(f"--{name}" for name in ANSWERS))
    shim = sources.shim()
    words = {name: ANSWERS[name][1](shim, asked) for name in asked or ANSWERS}
    text = json.dumps(words) if as_json else " ".join(shlex.quote(word) for found in words.values() for word in found)
    click.echo(text)
    return 0
