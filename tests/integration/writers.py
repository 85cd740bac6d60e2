"""Ways in which a finished module comes to an output: file tools, and writers that take their time."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

BUILDS = 8
"""How often a writer writes, unless it takes its time."""


def run(*command: str | Path) -> None:
    subprocess.run(command, check=True)


def move_inside(module: Path, output: Path) -> None:
    shutil.copyfile(module, scratch := output.with_name("scratch"))
    run("mv", "-f", scratch, output)


def move_from_outside(module: Path, output: Path) -> None:
    shutil.copyfile(module, scratch := output.parent.parent / "scratch")
    run("mv", "-f", scratch, output)


def move_over_and_leave_half_a_rename(module: Path, output: Path) -> None:
    (leaving := output.with_name("leaving")).touch()
    leaving.rename(output.parent.parent / "left")
    run("cp", module, output)


def link_forced(module: Path, output: Path) -> None:
    run("ln", "-f", module, output)


def link_as_cargo_does(module: Path, output: Path) -> None:
    output.unlink(missing_ok=True)
    os.link(module, output)


def symbolic_link(module: Path, output: Path) -> None:
    run("ln", "-sfn", module, output)


def rsync(*options: str) -> Callable[[Path, Path], None]:
    # --ignore-times: the modules are of the same size, and made within a second.
    return lambda module, output: run("rsync", "--ignore-times", *options, module, output)


def slowly(module: Path, output: Path) -> None:
    """A second for ten chunks: longer than any retry, and with a sweep in between."""
    write_in_chunks(module, output, 0.1)


def write_in_chunks(module: Path, output: Path, pause: float) -> None:
    data = module.read_bytes()
    step = len(data) // 10 + 1
    with output.open("wb", buffering=0) as file:
        for start in range(0, len(data), step):
            file.write(data[start : start + step])
            time.sleep(pause)


def append_and_close(module: Path, output: Path) -> None:
    """No writer has the file between its chunks: only the missing bytes tell that it is not complete."""
    data = module.read_bytes()
    output.unlink(missing_ok=True)
    step = len(data) // 5 + 1
    for start in range(0, len(data), step):
        with output.open("ab") as file:
            file.write(data[start : start + step])
        time.sleep(0.02)


def truncate_and_rewrite(module: Path, output: Path) -> None:
    """In place, on the same inode, with a pause while it is empty and another one at half."""
    data = module.read_bytes()
    with output.open("wb", buffering=0) as file:
        time.sleep(0.01)
        file.write(data[: len(data) // 2])
        time.sleep(0.01)
        file.write(data[len(data) // 2 :])


def rewrite_in_place(module: Path, output: Path) -> None:
    """Without truncation: the size is right from the start, and the file is a valid mixture of two until the end."""
    data = module.read_bytes()
    with output.open("r+b" if output.exists() else "wb", buffering=0) as file:
        for start in range(0, len(data), 1 << 20):
            file.write(data[start : start + (1 << 20)])
            time.sleep(0.005)


def install(module: Path, output: Path) -> None:
    run("install", "-m", "755", module, output)


WRITERS: dict[str, tuple[str, Callable[[Path, Path], None], int]] = {
    "cp": ("cp", lambda module, output: run("cp", module, output), BUILDS),
    "cp -p": ("cp", lambda module, output: run("cp", "-p", module, output), BUILDS),
    "mv inside": ("mv", move_inside, BUILDS),
    "mv from outside": ("mv", move_from_outside, BUILDS),
    "cp after a move out": ("cp", move_over_and_leave_half_a_rename, BUILDS),
    "install": ("install", install, BUILDS),
    "ln -f": ("ln", link_forced, BUILDS),
    "ln -sfn": ("ln", symbolic_link, BUILDS),
    "unlink and link": ("ln", link_as_cargo_does, BUILDS),
    "rsync": ("rsync", rsync(), BUILDS),
    "rsync --inplace": ("rsync", rsync("--inplace"), BUILDS),
    "rsync --delay-updates": ("rsync", rsync("--delay-updates"), BUILDS),
    "a second long": ("sh", slowly, 3),
    "append and close": ("sh", append_and_close, BUILDS),
    "truncate and rewrite": ("sh", truncate_and_rewrite, BUILDS),
    "rewrite in place": ("sh", rewrite_in_place, BUILDS),
}
