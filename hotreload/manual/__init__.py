"""Builds the manual: pages written by hand, references generated from click, from the C headers and by rustdoc.

    python -m hotreload.manual build/docs

The result is a folder of plain HTML whose links are all checked (`hotreload.manual.links`); `make docs` does it.
Nothing of it is kept in the repository: a reference that is stored is a reference that is out of date.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from hotreload import codes, sources
from hotreload.errors import HotreloadError
from hotreload.manual import cli, headers, site
from hotreload.reporters.jsonl import SCHEMA

HEADERS = ("hotreload.h", "slot.h", "patch.h", "abi.h", "status.h", "report.h", "preflight.h", "layout.h", "wire.h")
"""In the order shown; what else is in the directory follows."""


def build(out: Path, root: Path, *, rust: bool) -> Path:
    """Writes the manual.

    Args:
        out: The directory, emptied first.
        root: The checkout, for README, changelog and examples.
        rust: Whether rustdoc is run as well, which needs cargo.

    Returns:
        The first page.

    Raises:
        HotreloadError: ``E-BUILD``: rustdoc failed.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    book = site.Site(out, root)
    book.markdown(root / "README.md", "readme.html", "The first ten minutes")
    for page in sorted((codes.PAGES).glob("*.md")):
        book.markdown(page, f"{page.stem}.html")
    for example in sorted(root.glob("examples/*/README.md")):
        book.markdown(example, f"examples/{example.parent.name}.html")
    book.markdown(root / "CHANGELOG.md", "changelog.html")
    _code_pages(book)
    book.page("cli.html", "The command line", cli.body())
    include = sources.shim().include / "hotreload"
    names = [*HEADERS, *sorted(path.name for path in include.glob("*.h") if path.name not in HEADERS)]
    book.page("c.html", "The C headers", headers.body([include / name for name in names if (include / name).is_file()]))
    shutil.copyfile(SCHEMA, out / "event.json")
    if rust:
        _rustdoc(out)
        book.page("rust/index.html", "Rust", '<ul><li><a href="hotreload/index.html">The crate</a></li></ul>')
    return book.index(rust=rust)


def _code_pages(book: site.Site) -> None:
    known = codes.codes()
    for code in known.values():
        short = f"<p><strong>{site.escape(code.text)}</strong></p><p>In short: {site.escape(code.fix)}</p>"
        book.markdown(code.page, f"codes/{code.name}.html", code.name, after=short)
    rows = "".join(
        f'<tr><td><a href="{name}.html">{name}</a></td><td>{site.escape(code.text)}</td></tr>'
        for name, code in known.items()
    )
    book.page("codes/index.html", "Codes", f"<table><tr><th>code</th><th>when</th></tr>{rows}</table>")


def _rustdoc(out: Path) -> None:
    crate = sources.shim().rust
    command = ["cargo", "doc", "--quiet", "--no-deps", "--workspace", "--lib", "--features", "macros"]
    command += ["--manifest-path", str(crate / "Cargo.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0 or "warning" in done.stderr:
        raise HotreloadError("E-BUILD", "rustdoc failed", found=done.stderr.strip()[-2000:], fix="see its message")
    shutil.copytree(crate / "target" / "doc", out / "rust", ignore=shutil.ignore_patterns(".lock"))
