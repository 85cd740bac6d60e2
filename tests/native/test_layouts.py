"""Layout checks in a real host: what is refused runs nothing, what grows into a reserve owns its room from then on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import cbuild
import pytest

HERE = Path(__file__).resolve().parent

# The constructor would show that code of the module ran.
MODULE = """
#include "shape.h"
#include <hotreload/patch.h>
#include <stdio.h>
__attribute__((constructor)) static void started(void) { if (getchar_of_nobody) puts("a constructor ran"); }
static int32_t tick(void *state, const void *input, void *output) {
    (void)input, (void)output;
    return ((Shape *)state)->value + VERSION;
}
HR_MODULE("shape", VERSION, HR_PATCH("shape.tick", tick))
""".replace("getchar_of_nobody", "LOUD")

DESCRIPTION = 'HR_MODULE_LAYOUT(SHAPE_TYPES, HR_TAKES("shape.tick", Shape, void, void))\n'


class Host:
    """layout_host, asked line by line."""

    def __init__(self, program: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def ask(self, line: str) -> str:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def load(self, module: Path) -> str:
        return self.ask(f"load {module}")

    def close(self) -> None:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(60)
        self.process.stdout.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shim = cbuild.build_shim(tmp_path_factory.mktemp("shim"))
    return shim.host(HERE / "layout_host.c", shim.archive.parent / "layout_host", "-I", str(HERE))


@pytest.fixture
def host(program: Path) -> Iterator[Host]:
    made = Host(program)
    yield made
    made.close()


def module(directory: Path, version: int, shape: int, *, described: bool = True, loud: bool = False) -> Path:
    source = MODULE + (DESCRIPTION if described else "")
    defines = (f"-DVERSION={version}", f"-DSHAPE={shape}", f"-DLOUD={int(loud)}", "-I", str(HERE))
    return cbuild.build_module(directory / f"shape-{version}-{shape}.so", source, *defines)


def test_an_equal_layout_is_accepted(host: Host, tmp_path: Path) -> None:
    assert host.load(module(tmp_path, 1, 0)) == "ok"
    assert host.ask("tick") == "8"


def test_a_difference_is_refused_before_any_code_runs(host: Host, tmp_path: Path) -> None:
    answer = host.load(module(tmp_path, 1, 3, loud=True))
    code, reason, found, expected = answer.split(" | ")
    assert code == "E-LAYOUT", "and no constructor's line came before it"
    assert reason == (
        "structs shared with the host differ: Shape resized, Shape.id added, Shape.value moved, Shape.at moved"
    )
    assert found == "Shape: 40 bytes, align 8, id int64_t @0 (8), value int32_t @8 (4), at Point @12 (8)"
    assert expected == "Shape: 28 bytes, align 4, no id, value int32_t @0 (4), at Point @4 (8)"
    assert host.ask("tick") == "7", "the fallback still runs"


def test_a_nested_difference_is_refused(host: Host, tmp_path: Path) -> None:
    answer = host.load(module(tmp_path, 1, 4))
    assert answer.startswith("E-LAYOUT | ") and "Point.x retyped, Point.y retyped" in answer


def test_growth_owns_its_room(host: Host, tmp_path: Path) -> None:
    """Both fit the host's reserve, but the second would find the first one's data where it expects its own."""
    grown = module(tmp_path, 1, 1)
    assert host.load(grown) == "ok"
    answer = host.load(module(tmp_path, 2, 2))
    assert answer.startswith("E-LAYOUT | structs shared with the host differ: Shape.radius removed, Shape.sides added")
    assert host.load(module(tmp_path, 3, 0)) == "ok", "taking the edit back is no difference"
    assert host.load(module(tmp_path, 4, 2)).startswith("E-LAYOUT"), "the room is still the first one's"
    assert host.load(module(tmp_path, 5, 1)) == "ok"
    assert host.ask("tick") == "12"


def test_refused_growth_owns_nothing(host: Host, tmp_path: Path) -> None:
    assert host.load(module(tmp_path, 1, 3)).startswith("E-LAYOUT")
    assert host.load(module(tmp_path, 2, 2)) == "ok"


def test_what_is_not_described_is_not_checked(program: Path, host: Host, tmp_path: Path) -> None:
    assert host.load(module(tmp_path, 1, 3, described=False)) == "ok"
    plain = Host(program, "plain")
    assert plain.load(module(tmp_path, 2, 3)) == "ok"
    plain.close()
