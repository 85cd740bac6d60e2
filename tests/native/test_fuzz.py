"""The fuzz targets' first inputs reach every code that a target can answer with, and none of them harms it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import cbuild
import pytest

sys.path.insert(0, str(Path(__file__).parent / "fuzz"))

import corpus

from hotreload import native

NOT_OF_BYTES = {
    *("E-MEMORY", "E-LIMIT"),  # of the machine: test_faults
    *("E-CRASH", "E-HANG", "E-TRIAL", "E-SAFE-POINT"),  # of running code and of the host's own doing
    *("E-USAGE", "E-DUPLICATE", "E-NO-SLOT"),  # of the library's caller
    *("E-NO-HOST", "E-HOST-GONE"),  # of the tool, which finds hosts
    "E-UNKNOWN",  # a number that is no status
}
"""Codes that no module, message or black box can lead to."""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> cbuild.Shim:
    return cbuild.build_shim(tmp_path_factory.mktemp("shim"))


def codes(shim: cbuild.Shim, target: str, seeds: Mapping[str, bytes], scratch: Path) -> dict[str, list[str]]:
    """Runs a target over its inputs, in order, in one process: the codes that each led to."""
    program = scratch / target
    command = [cbuild.cc(), "-O2", *cbuild.WARNINGS, "-DFUZZ_FILES", "-I", cbuild.INCLUDE, "-o", program]
    sources = [cbuild.ROOT / "tests/native/fuzz" / name for name in (f"{target}.c", "target.c")]
    cbuild.run([*command, *sources, shim.archive, *cbuild.LIBRARIES])
    files = corpus.write(scratch / "seeds", seeds)
    for directory in ("run", "state"):
        (scratch / directory).mkdir(mode=0o700)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(scratch / "run"), "XDG_STATE_HOME": str(scratch / "state")}
    done = subprocess.run([program, *files], env=environment, capture_output=True, text=True, check=True)
    told: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        if line.startswith("/"):
            told[Path(line).name] = current = []
        else:
            current.append(line)
    assert list(told) == list(seeds)
    return told


@pytest.fixture(autouse=True)
def closed_files() -> None:
    os.umask(0o022)  # a module that others may write to is refused


def reached(told: dict[str, list[str]]) -> set[str]:
    return {code for answers in told.values() for code in answers}


def test_every_code_that_bytes_can_lead_to_is_among_them() -> None:
    everything = {native.ffi.string(native.lib.hr_status_code(n)).decode() for n in range(native.STATUS_NUMBERS)}
    inputs = corpus.PREFLIGHT_CODES | corpus.LAYOUT_CODES | corpus.WIRE_CODES | corpus.BOX_CODES
    assert everything - inputs == NOT_OF_BYTES


def test_preflight(shim: cbuild.Shim, tmp_path: Path) -> None:
    told = codes(shim, "preflight", corpus.modules(tmp_path / "m"), tmp_path)
    assert reached(told) == corpus.PREFLIGHT_CODES
    assert told["names-nowhere"] == ["ok"], "the loader reads no section"


def test_layout(shim: cbuild.Shim, tmp_path: Path) -> None:
    told = codes(shim, "layout", corpus.layouts(tmp_path / "m"), tmp_path)
    assert reached(told) == corpus.LAYOUT_CODES, told
    assert told["same"] == ["ok", "ok"] and told["different"] == ["E-LAYOUT", "E-LAYOUT"]
    assert told["struct-struct"] == ["ok", "ok"], "one name, however many words stand before it"
    assert told["grown"] == ["ok", "ok"], "into a reserve a struct may grow, and shrink back"


def test_wire(shim: cbuild.Shim, tmp_path: Path) -> None:
    told = codes(shim, "wire", corpus.requests(tmp_path / "m"), tmp_path)
    assert reached(told) == corpus.WIRE_CODES, told


def test_box(shim: cbuild.Shim, tmp_path: Path) -> None:
    told = codes(shim, "box", corpus.boxes(), tmp_path)
    assert reached(told) == corpus.BOX_CODES
    assert told["sound"] == ["ok"] and told["outside"] == ["E-PROTOCOL"]


def test_events_of_a_box_that_counts_to_the_end_of_numbers(shim: cbuild.Shim, tmp_path: Path) -> None:
    """Found by the fuzzer: the reader went round for ever."""
    endless = corpus.endless(corpus.boxes()["sound"])
    assert codes(shim, "box", {"endless": endless}, tmp_path) == {"endless": ["ok"]}


# ---- make fuzz ----


def test_make_fuzz_runs_what_there_is() -> None:
    """All targets, then tests that exist: with a name that none has it would end with an error after all its work."""
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name and name != "PYTEST_ARGS"}
    said = subprocess.run(
        ["make", "-n", "fuzz"], cwd=cbuild.ROOT, env=environment, capture_output=True, text=True, check=True
    ).stdout
    (fuzzing,) = re.findall(r"python (tests/native/fuzz/run.py) --seconds 60", said)
    (chosen,) = re.findall(r"MUTANTS=200000 \S+ -m pytest (.*)", said)
    assert (cbuild.ROOT / fuzzing).is_file()
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *chosen.split()]
    done = subprocess.run(command, cwd=cbuild.ROOT, capture_output=True, text=True, check=True)
    assert "test_random_damage_never_kills_the_loader" in done.stdout


def test_a_target_under_the_fuzzer(require_tool: Callable[..., Path], tmp_path: Path) -> None:
    require_tool("clang")
    command = [sys.executable, "tests/native/fuzz/run.py", "layout", "--seconds", "1", "--keep", str(tmp_path)]
    done = subprocess.run(command, cwd=cbuild.ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and re.search(r"layout +1 s +[1-9][\d,]* inputs .* nothing found", done.stdout), done
