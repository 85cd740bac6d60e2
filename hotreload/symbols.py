"""Names source lines of code addresses, with the tools of the system's compiler; off the host."""

from __future__ import annotations

from pathlib import Path

TOOLS = ("addr2line", "llvm-addr2line", "eu-addr2line")
SECONDS = 5.0
"""A tool that takes longer (a large program's debug information) is given up."""


OTHERS = ("/rustc/", "/rustlib/src/", "/.cargo/registry/", "/usr/include/", "/usr/lib/", "/zig/std/", "/zig/lib/std/")
"""What a path contains that is no code of the user's: compilers bring it, or their packages."""


def locate(library: Path, address: int) -> str:
    """Where a virtual address of a library comes from: ``"file.c:12 in function"``, as much of it as is known.

    Of functions that were put into each other, the innermost that is the user's own: where it called what a standard
    library's header holds, rather than the place in the header.

    Empty where no tool is there, the library has gone, or it carries neither debug information nor names.
    """
    import shutil  # here: commands that look up nothing start without them
    import subprocess

    tool = next(filter(None, map(shutil.which, TOOLS)), None)
    if tool is None or not library.is_file():
        return ""
    command = [tool, "-C", "-f", "-i", "-e", str(library), hex(address)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return _sentence(done.stdout)


def _sentence(answer: str) -> str:
    """The tool's answer as one text: two lines for each function, from the innermost outwards; ``??`` is unknown."""
    lines = answer.strip().split("\n")
    frames = list(zip(lines[::2], lines[1::2], strict=False))
    own = [frame for frame in frames if not any(each in frame[1] for each in OTHERS) and frame[1][:1] != "?"]
    function, place = (own or frames or [("", "")])[0]
    place = place.split(" (discriminator")[0]
    file, _, line = place.rpartition(":")
    parts = []
    if file.strip("?") and line.isdigit() and line != "0":
        parts.append(f"{Path(file).name}:{line}")
    if function.strip("?"):
        parts.append(f"in {function}")
    return " ".join(parts)
