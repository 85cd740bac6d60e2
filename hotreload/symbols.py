"""Names source lines of code addresses, with the tools of the system's compiler; off the host."""

from __future__ import annotations

from pathlib import Path

TOOLS = ("addr2line", "llvm-addr2line", "eu-addr2line")
SECONDS = 5.0
"""A tool that takes longer (a large program's debug information) is given up."""


def locate(library: Path, address: int) -> str:
    """Where a virtual address of a library comes from: ``"file.c:12 in function"``, as much of it as is known.

    Empty where no tool is there, the library has gone, or it carries neither debug information nor names.
    """
    import shutil  # here: commands that look up nothing start without them
    import subprocess

    tool = next(filter(None, map(shutil.which, TOOLS)), None)
    if tool is None or not library.is_file():
        return ""
    command = [tool, "-C", "-f", "-e", str(library), hex(address)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return _sentence(done.stdout)


def _sentence(answer: str) -> str:
    """The tool's two lines as one text; ``??`` stands for what it does not know."""
    function, _, place = answer.strip().partition("\n")
    place = place.split(" (discriminator")[0]
    file, _, line = place.rpartition(":")
    parts = []
    if file.strip("?") and line.isdigit() and line != "0":
        parts.append(f"{Path(file).name}:{line}")
    if function.strip("?"):
        parts.append(f"in {function}")
    return " ".join(parts)
