"""``hotreload new``: creates a project from a template."""

from __future__ import annotations

import importlib.util
import shlex
import shutil
import sys
from pathlib import Path

import click

from hotreload import scaffold, sources
from hotreload.commands import COMMANDS, options


@click.command(
    name="new",
    help=COMMANDS["new"] + "\n\nNAME is its directory, and names its slots. `hotreload dev` in it starts everything.",
)
@click.argument("name")
@click.option("--lang", "language", type=options.Choice(scaffold.LANGUAGES), required=True, help="Its language.")
@click.option("--kind", type=options.Choice(list(scaffold.KINDS)), default="both", show_default=True,
              help="What to create.")  # fmt: skip
def command(name: str, language: str, kind: str) -> int:
    directory = Path(name)
    scaffold.check_name(directory.name)
    written = scaffold.write(
        directory, scaffold.files(sources.templates(), language, kind, values(directory.name, language))
    )
    for path in written:
        click.echo(f"wrote {path}")
    click.echo(f"next: cd {directory} && hotreload dev")
    return 0


def values(name: str, language: str) -> dict[str, str]:
    """What fills the marks of the templates."""
    shim = sources.shim()
    return {
        "NAME": name,
        "IDENT": name.replace("-", "_"),
        "RUST_DIR": shim.rust.as_posix(),
        "UPPER": name.replace("-", "_").upper(),
        "PYTHON": shlex.quote(sys.executable),
        "ARCHIVE": shim.libs()[0] if language == "zig" else "",
        "ZIG": zig(),
    }


def zig() -> str:
    """How zig is called here: it may come as a Python package."""
    if shutil.which("zig") or importlib.util.find_spec("ziglang") is None:
        return "zig"
    return f"{shlex.quote(sys.executable)} -m ziglang"
