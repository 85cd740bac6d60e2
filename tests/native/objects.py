"""The shim's object files, compiled once for each content, compiler and set of flags, for all tests and benchmarks.

A dozen files of tests want the very same objects, on several workers at a time: compiled anew for each they took a
minute of two cores. They are kept below ``build/``, which ``make clean`` removes.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
INCLUDE = ROOT / "shim" / "include"
SOURCES = ROOT / "shim" / "src"
KEPT = ROOT / "build" / "tests" / "objects"
KEPT_MOST = 16
"""Sets of objects; the least recently used of more are removed."""


def compiled(compiler: str, flags: Sequence[str], run: Callable[[Sequence[str | Path]], object]) -> list[Path]:
    """The objects of all sources of the shim, in the order of their names. Nobody may write to them.

    Args:
        compiler: The C compiler's path.
        flags: All that it is told beside ``-c``, ``-o`` and the source.
        run: Runs a command, and raises where it fails.
    """
    directory = KEPT / _key(compiler, flags)
    sources = sorted(SOURCES.glob("*.c"))
    with _alone(directory):  # the others would compile the same in this time
        if not directory.exists():
            _prune()
            unfinished = directory.with_suffix(".new")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir(parents=True)
            for source in sources:
                run([compiler, "-c", *flags, "-o", unfinished / f"{source.stem}.o", source])
            unfinished.rename(directory)
        os.utime(directory)
    return [directory / f"{source.stem}.o" for source in sources]


def _key(compiler: str, flags: Sequence[str]) -> str:
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False).stdout
    told = hashlib.sha256("\0".join([compiler, version, *flags]).encode())
    for path in sorted((*SOURCES.iterdir(), *INCLUDE.rglob("*"))):
        if path.is_file():
            told.update(f"\0{path}\0".encode() + path.read_bytes())
    return told.hexdigest()[:32]


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    KEPT.mkdir(parents=True, exist_ok=True)
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prune() -> None:
    """What is used just now is among the newest."""
    whole = (path for path in KEPT.iterdir() if path.suffix == "")
    known = sorted(whole, key=lambda path: path.stat().st_mtime)
    for path in known[: max(0, len(known) + 1 - KEPT_MOST)]:
        shutil.rmtree(path, ignore_errors=True)
