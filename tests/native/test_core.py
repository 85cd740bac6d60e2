"""Faults that the core has had, each as a scenario of core_host.c that fails without its handling.

Every scenario is a process of its own: some change its limits, close its descriptors or put it into a sandbox.
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
MODULES = {
    "m1": (1, "m", "a"),
    "m2": (2, "m", "a"),
    "m3": (3, "m", "a"),
    "n1": (1, "n", "a"),
    "u1": (1, "u", "late.one"),
}
NOT_HERE = 77  # what a scenario ends with where the system lacks what it needs
SCENARIOS = [
    "freed_runtime",
    "stopped_while_waiting",
    "two_roll_backs",
    "swap_during_roll_back",
    "overlap",
    "quarantined_meanwhile",
    "reserved_slots",
    "declared_meanwhile",
    "more_modules_than_records",
    "abort_by_the_host",
    "stop_while_polling",
    "no_descriptor_to_serve",
    "no_descriptor_to_accept",
    "host_and_tool_at_once",
    "first_calls",
    "options",
    "served_child_with_threads",
    "descriptors_closed",
    "fork_during_on_unload",
    "fork_in_hook",
    "file_size_limit",
    "barrier_taken_away",
    "trial_of_a_slow_fork",
    "trial_with_a_late_answer",
    "trial_beside_a_child",
    "trial_where_a_fork_would_harm",
    "freed_before_told",
    "samples_after_a_late_declaration",
]


@dataclass(frozen=True)
class Core:
    """The program and the directory of its modules."""

    program: Path
    modules: Path


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, cc: str) -> Core:
    directory = tmp_path_factory.mktemp("core")
    shim = cbuild.build_shim(directory / "lib")
    for output, (version, name, symbol) in MODULES.items():
        defines = (f"-DVERSION={version}", f'-DNAME="{name}"', f'-DSYMBOL="{symbol}"', "-I", str(HERE))
        cbuild.build_module(directory / f"{output}.so", (HERE / "core_patch.c").read_text(encoding="utf-8"), *defines)
    return Core(shim.host(HERE / "core_host.c", directory / "core_host"), directory)


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Directories of its own, short enough for a socket's path."""
    with tempfile.TemporaryDirectory(prefix="hr-") as directory:
        yield {"XDG_RUNTIME_DIR": directory, "XDG_STATE_HOME": directory, "MALLOC_PERTURB_": "165"}


def run(core: Core, *arguments: str | Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [core.program, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment, check=False)


def test_all_scenarios_are_named(core: Core) -> None:
    assert run(core, environment={}).stdout.split() == SCENARIOS


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_core(scenario: str, core: Core, environment: dict[str, str]) -> None:
    done = run(core, scenario, core.modules, environment=environment)
    if done.returncode == NOT_HERE:
        pytest.skip("this system has no membarrier")
    assert done.returncode == 0, done.stderr or f"ended with {done.returncode}"


def test_a_host_needs_nothing_of_the_compilers_own_library(tmp_path: Path) -> None:
    """Other languages' linkers bring none, or another one."""
    shim = cbuild.build_shim(tmp_path / "shim")
    (tmp_path / "host.c").write_text(
        "#include <hotreload/hotreload.h>\n"
        "int main(void) { return hr_serve(0, 0, 0, 0) == HR_OK; }\n"  # no name: refused
    )
    command = [cbuild.cc(), "-I", cbuild.INCLUDE, tmp_path / "host.c", shim.archive]
    cbuild.run([*command, "-nodefaultlibs", "-lc", "-lpthread", "-ldl", "-o", tmp_path / "host"])
    assert subprocess.run([tmp_path / "host"], check=False).returncode == 0
