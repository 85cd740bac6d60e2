"""The guard: patches that crash or hang are rolled back, and their hosts go on as if they had never come.

Every scenario of guard_host.c is a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cbuild
import pytest

HERE = Path(__file__).resolve().parent
SCENARIOS = [
    "kinds",
    "shared_state",
    "probation_ends",
    "nested",
    "back_on_probation",
    "unloaded",
    "handlers",
    "handler_of_a_patch",
    "crash_outside",
    "forked",
    "torture",
    "torture_hangs",
    "torture_unloads",
]


@dataclass(frozen=True)
class Guarded:
    """The program and the directory of its modules."""

    program: Path
    modules: Path


def build(directory: Path, *flags: str) -> Guarded:
    """Builds both; ``flags`` such as ``-fsanitize=address`` are for the program."""
    shim = cbuild.build_shim(directory / "lib", *flags)
    # Without build ids: the host gives every copy of the crasher other content.
    for name, source in (("crasher", "crasher.c"), ("outer", "guard_outer.c"), ("good", "good.c")):
        text = (cbuild.HOSTS / source).read_text(encoding="utf-8")
        cbuild.build_module(directory / f"{name}.so", text, "-O1", "-Wl,--build-id=none")
    return Guarded(shim.host(HERE / "guard_host.c", directory / "guard_host"), directory)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, cc: str) -> Guarded:
    return build(tmp_path_factory.mktemp("guard"))


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Directories of its own, short enough for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="hr-") as directory:
        yield {"XDG_RUNTIME_DIR": directory, "XDG_STATE_HOME": directory}


def run(guarded: Guarded, *arguments: str | Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [guarded.program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


def test_all_scenarios_are_named(guarded: Guarded) -> None:
    assert run(guarded, environment={}).stdout.split() == SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_guard(scenario: str, guarded: Guarded, environment: dict[str, str]) -> None:
    done = run(guarded, scenario, guarded.modules, environment=environment)
    assert done.returncode == 0, done.stderr or f"ended with {done.returncode}"
