"""The process that reads debug info, when it does not do as it should."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hotreload.comparer import FAILED, FAILURES_MOST, Comparer
from hotreload.debug_types import Answer, Question

LONG = 60.0
FAULTS = {
    "it ends at once": "exit 0",
    "it ends in the middle of an answer": r"printf '\100\0\0\0\0\0\0\0abc'",
    "its answer is no pickle": r"printf '\3\0\0\0\0\0\0\0abc'; sleep 1000",
    "its answer is something else": r"printf '\2\0\0\0\0\0\0\0N.'; sleep 1000",
    "its answer is of a class that is not here": r"printf '\13\0\0\0\0\0\0\0csys\nnone\n.'; sleep 1000",
}


@pytest.fixture
def comparer() -> Iterator[Comparer]:
    made = Comparer()
    yield made
    made.close()


def ask(comparer: Comparer) -> Answer:
    nothing = Path("/dev/null")
    return comparer.ask(Question(nothing, b"", nothing, "", (16,), ("a",), b"")).result(LONG)


@pytest.mark.parametrize("script", FAULTS.values(), ids=FAULTS)
def test_a_process_that_fails_is_started_again_a_few_times(
    comparer: Comparer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    program, starts = tmp_path / "python", tmp_path / "starts"
    program.write_text(f"#!/bin/sh\necho >>{starts}\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    with monkeypatch.context() as changed:
        changed.setattr(sys, "executable", str(program))
        assert ask(comparer).missing == (FAILED,)
    whole = ask(comparer)
    assert FAILED not in whole.missing and whole.missing, "a file without debug info, and a process that says so"
    monkeypatch.setattr(sys, "executable", str(program))
    comparer._end_process()
    assert all(ask(comparer).missing == (FAILED,) for _ in range(FAILURES_MOST))
    assert len(starts.read_text(encoding="utf-8")) == FAILURES_MOST


def test_one_that_cannot_be_started(comparer: Comparer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert ask(comparer).missing == (FAILED,)


def test_the_end_is_no_failure() -> None:
    comparer = Comparer()
    assert FAILED not in ask(comparer).missing
    comparer.close()
    assert ask(comparer) == Answer()
