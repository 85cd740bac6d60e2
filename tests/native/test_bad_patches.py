"""Some of the bad patches that `make bad-patches` loads: each kind that the guard catches, by the real command."""

from __future__ import annotations

import sys
from pathlib import Path

import cbuild
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bench"))

import bad_patches

EXPECTED = {
    "null_store": "E-CRASH: SIGSEGV in bad.step, null_store.c:8 in step",
    "libc_crash": "E-CRASH: SIGSEGV in bad.step, libc_crash.c:",
    "state_then_loop": "E-HANG: no return in bad.step, state_then_loop.c:",
    "thread_crashes": "E-CRASH: SIGSEGV in a thread of its own, thread_crashes.c:8 in later",
    "on_load_hangs": "E-HANG: no return in on_load",
    "constructor_crashes": "E-CRASH: SIGSEGV in a constructor",
}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, cc: str) -> Path:
    return tmp_path_factory.mktemp("bad")


@pytest.fixture(scope="module")
def host(directory: Path) -> Path:
    return bad_patches.build_host(directory)


@pytest.fixture(scope="module")
def successor(directory: Path) -> Path:
    return cbuild.build_module(directory / "next.so", bad_patches.NEXT)


@pytest.mark.parametrize("case", EXPECTED)
def test_the_guard_catches(case: str, directory: Path, host: Path, successor: Path) -> None:
    module = bad_patches.build(bad_patches.cases()[case], directory)
    assert module is not None
    seen = bad_patches.run(host, module, case, "guard", successor)
    assert seen.survived and EXPECTED[case] in seen.verdict, seen.verdict
    assert "the implementation before runs" in seen.verdict and "no further module" not in seen.verdict


def test_the_corpus_is_large_and_described() -> None:
    cases = bad_patches.cases()
    assert len(cases) >= 25
    assert all(bad_patches.describe(path).endswith(".") for path in cases.values())
