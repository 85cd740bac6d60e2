"""Some of the bad patches that `make bad-patches` loads: each kind that the guard catches, by the real command."""

from __future__ import annotations

import sys
from pathlib import Path

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
def host(tmp_path_factory: pytest.TempPathFactory, cc: str) -> bad_patches.Host:
    return bad_patches.build_host(tmp_path_factory.mktemp("bad"))


def seen_of(host: bad_patches.Host, case: str, way: str) -> bad_patches.Seen:
    module = host.build(bad_patches.cases()[case])
    assert module is not None
    return bad_patches.run(host, module, case, way)


@pytest.mark.parametrize("case", EXPECTED)
def test_the_guard_catches(case: str, host: bad_patches.Host) -> None:
    seen = seen_of(host, case, "guard")
    assert seen.survived and EXPECTED[case] in seen.verdict, seen.verdict
    assert "the implementation before runs" in seen.verdict and "no further module" not in seen.verdict


def test_a_trial_meets_the_fault_and_not_another_status(host: bad_patches.Host) -> None:
    seen = seen_of(host, "null_store", "trial")
    assert seen.survived and "E-CRASH" in seen.verdict and "the implementation before runs" in seen.verdict, seen
    harmless_in_the_call = seen_of(host, "use_after_free", "trial")
    assert harmless_in_the_call.verdict == "survived; the patch runs"


def test_the_corpus_is_large_and_described() -> None:
    cases = bad_patches.cases()
    assert len(cases) >= 25
    assert all(bad_patches.describe(path).endswith(".") for path in cases.values())
