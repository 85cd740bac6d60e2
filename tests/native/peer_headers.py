"""Fetches the headers of peers out of the crates.io packages that carry them."""

from __future__ import annotations

import subprocess
from pathlib import Path

PACKAGE = """[package]
name = "probe"
version = "0.1.0"
edition = "2021"

[dependencies]
cr-sys = "=0.1.1"

[workspace]
"""


def cr(directory: Path) -> Path:
    """cr.h, below ``directory``, with cargo. Raises RuntimeError with cargo's words, OSError: there is no cargo."""
    (directory / "src").mkdir(parents=True)
    (directory / "Cargo.toml").write_text(PACKAGE, encoding="utf-8")
    (directory / "src" / "main.rs").write_text("fn main() {}\n", encoding="utf-8")
    command = ["cargo", "vendor", "--quiet", "--no-delete", "vendored"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return directory / "vendored" / "cr-sys" / "vendor" / "cr.h"
