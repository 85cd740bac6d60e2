"""``hotreload inspect``: checks a module without running any of it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from hotreload import native
from hotreload.commands import COMMANDS, options
from hotreload.debug_types import compare
from hotreload.errors import EXIT_OK, EXIT_REJECTED
from hotreload.examiner import program_of, question
from hotreload.hosts import Finder
from hotreload.model import Against, Failure, Manifest
from hotreload.reporters.answers import print_inspection
from hotreload.type_cache import TypeCache, user_directory


@click.command(name="inspect", help=COMMANDS["inspect"] + "\n\nExits with 3 when a host would reject it.")
@click.argument("module", type=click.Path(path_type=Path))
@click.option("--against", metavar="HOST|FILE", help="Compare its types with those of a host, a program or a module.")
@options.as_json("Print one object.", schema="inspect")
@options.color
def command(module: Path, against: str | None, as_json: bool, color: str) -> int:
    found = native.settled(module) or native.inspect(module)
    own = found.layout if isinstance(found, Manifest) else b""
    other = compared(against, module, found) if against is not None and isinstance(found, Manifest) else None
    layouts = native.layouts(own) if own else None
    print_inspection(module, found, layouts, None if as_json else options.console(color), other)
    return EXIT_REJECTED if isinstance(found, Failure) or (other and other.refused) else EXIT_OK


def compared(name: str, module: Path, manifest: Manifest) -> Against:
    """The module beside another file, or the running host of that name or pid: by what both describe, and by debug
    info for the rest."""
    program, described = other_of(name)
    both = native.compare(described, manifest.layout) if described and manifest.layout else None
    silent = "" if both else "host" if manifest.layout else "module"
    cache = TypeCache(user_directory(os.environ))
    rest = compare(question(program, described, module, manifest), cache)
    cache.save()
    return Against(name, both, silent, rest.comparison, rest.missing)


def other_of(name: str) -> tuple[Path, bytes]:
    """A file with the types of the other side, and what it describes."""
    if not Path(name).is_file():
        link = Finder().require([name])[0]
        return program_of(link.host.pid), link.layouts()
    found = native.settled(Path(name)) or native.inspect(Path(name))
    if isinstance(found, Manifest):
        return Path(name), found.layout
    if found.code not in ("E-NOT-ELF", "E-NO-MANIFEST") or not is_elf(Path(name)):
        raise native.error_of(found)
    return Path(name), b""  # a program, or a library of the host


def is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
