"""Source lines of code addresses, by the system's own tool."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import RequireTool

from hotreload.symbols import locate

SOURCE = """static inline __attribute__((always_inline)) int other(int *where) {
#line 7 "/usr/include/other.h"
    return *(volatile int *)where;
}
#line 20 "own.c"
int own(int *where) {
    return other(where);
}
"""


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory, cc: str) -> Path:
    directory = tmp_path_factory.mktemp("symbols")
    (directory / "own.c").write_text(SOURCE, encoding="utf-8")
    output = directory / "own.so"
    subprocess.run([cc, "-g", "-O1", "-shared", "-fPIC", "own.c", "-o", output], cwd=directory, check=True)
    return output


def address_of(library: Path, symbol: str) -> int:
    names = subprocess.run(["nm", library], capture_output=True, text=True, check=True).stdout
    (found,) = (line.split()[0] for line in names.splitlines() if line.endswith(f" {symbol}"))
    return int(found, 16)


def test_the_place_is_the_users_own(library: Path, require_tool: RequireTool) -> None:
    """All of the function up to its return is what was put into it."""
    start = address_of(library, "own")
    command = [require_tool("addr2line"), "-f", "-e", library, hex(start)]
    assert "other.h:7" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert locate(library, start) in ("own.c:20 in own", "own.c:21 in own")


def test_nothing_is_known_of_nothing(library: Path, tmp_path: Path) -> None:
    assert locate(tmp_path / "gone.so", 0x1000) == ""
    assert locate(library, 0xFFFFFFF0) == ""
