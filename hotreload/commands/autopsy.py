"""``hotreload autopsy``: what a dead host was doing, from its black box and its core file."""

from __future__ import annotations

import time
from pathlib import Path

import click

from hotreload import core_file, native, postmortem, symbols
from hotreload.commands import COMMANDS, options
from hotreload.errors import NoHost
from hotreload.history import History, content_of
from hotreload.model import ModuleRecord, Record, Remains
from hotreload.reporters.findings import print_finding

HELP = f"""{COMMANDS["autopsy"]}

Without a PID, of the host that was started last. Those of the last five that did not end in order are kept, for each
run-time directory ($XDG_RUNTIME_DIR).
"""


@click.command(name="autopsy", help=HELP)
@click.argument("pid", type=click.IntRange(min=1), required=False)
@click.option(
    "--core", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Its core file, if it is not found."
)
@options.as_json("Print one object.", schema="autopsy")
@options.color
def command(pid: int | None, core: Path | None, as_json: bool, color: str) -> None:
    kept = native.remains()
    found = next((each for each in kept if pid in (None, each.pid)), None)
    if found is None:
        whose = "" if pid is None else f" of process {pid}"
        others = ", ".join(str(each.pid) for each in kept)
        fix = f"those kept are of {others}" if others else "a host leaves one when it dies while it is served"
        raise NoHost("E-NO-HOST", f"no black box{whose} is kept", fix=fix)
    print_finding(examine(found, core), kept, None if as_json else options.console(color))


def examine(found: Remains, core: Path | None) -> postmortem.Finding:
    """Reads all there is and puts it together."""
    box = native.open_remains(found)
    program, directory = box.program()
    read = (core_file.read_one(core), f"{core} is no core file") if core else None
    dump, why = read or core_file.find(found.pid, program, directory)
    events: list[Record] = []
    after, before = 0, -1
    while after != before:
        before = after
        after, more = box.events(before)
        events += [record for _, record in more]
    snapshot = box.snapshot(time.monotonic(), alive=False)
    return postmortem.examine(snapshot, box.threads(), events, program, dump, why, name_at, image_of)


def name_at(path: Path, address: int) -> str:
    """The symbol there, and the source line where the file has debug information."""
    line = symbols.locate(path, address)
    return native.symbol_at(path, address) + (f" ({line})" if ":" in line else "")


def image_of(record: ModuleRecord) -> Path | None:
    """The staged copy, which goes with the host's successor, the history's, or the build output if it is the same."""
    module = record.module
    staged, kept, output = Path(record.staged), History().retained(module.content), Path(module.path)
    if staged.is_file():
        return staged
    return kept or (output if output.is_file() and content_of(output) == module.content else None)
