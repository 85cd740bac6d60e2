"""Writes the C source of ``hotreload._shim`` from the public headers, which are the cffi cdef as they stand.

Run by CMakeLists.txt: ``python cffi_build.py INCLUDE_DIRECTORY OUTPUT``. A second description of the interface for
Python was rejected: it would have to be kept equal to the headers by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

HEADERS = ("abi.h", "status.h", "layout.h", "preflight.h", "report.h", "hotreload.h", "wire.h")
"""In this order each header comes after those that it includes."""

_INTEGER = re.compile(r"#define\s+HR_\w+\s+-?(0[xX][0-9a-fA-F]+|\d+)\s*(/\*.*)?$")
_SKIPPED_BLOCK = re.compile(r"#\s*ifdef\s+(__cplusplus|HOTRELOAD_OFF)\b")
_BLOCK_START = re.compile(r"#\s*if")
_BLOCK_END = re.compile(r"#\s*endif")
_DIRECTIVE = re.compile(r"#")


class _Blocks:
    """Tells which lines lie inside blocks that Python does not see; include guards are open blocks that it does."""

    def __init__(self) -> None:
        self._skipping: list[bool] = []

    def skips(self, line: str) -> bool:
        if _BLOCK_START.match(line):
            self._skipping.append(bool(_SKIPPED_BLOCK.match(line)))
        skipped = any(self._skipping)
        if _BLOCK_END.match(line):
            self._skipping.pop()
        return skipped


def declarations(header: str) -> str:
    """Returns a header's text without its preprocessor lines, except for integer constants."""
    blocks = _Blocks()
    kept = []
    for line in header.splitlines():
        if blocks.skips(line):
            continue
        if _DIRECTIVE.match(line) and not _INTEGER.match(line):
            continue
        kept.append(line)
    return "\n".join(kept)


def cdef(include: Path) -> str:
    """Returns the whole cdef. ``include`` is the directory that holds ``hotreload/``."""
    return "\n".join(declarations((include / "hotreload" / name).read_text(encoding="utf-8")) for name in HEADERS)


def generate(include: Path, output: Path) -> None:
    """Writes the extension's C source to ``output``."""
    from cffi import FFI  # here, so that declarations() can be read without cffi

    ffi = FFI()
    ffi.cdef(cdef(include))
    ffi.set_source("hotreload._shim", "#include <hotreload/hotreload.h>\n#include <hotreload/wire.h>\n")
    ffi.emit_c_code(str(output))


if __name__ == "__main__":
    generate(Path(sys.argv[1]), Path(sys.argv[2]))
