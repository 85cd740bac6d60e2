"""Guard rails: the call path, preflight and commits take no more instructions than the committed baseline allows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import measure
import pytest
from measure import Count

RATIO_ALLOWED = 1.25
"""For ratios, which are compared across compilers too: one may take an instruction or two more than another."""


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory, cc: str, require_tool: Callable[..., Path]) -> measure.Counter:
    require_tool("valgrind")
    return measure.Counter(tmp_path_factory.mktemp("counted"))


@pytest.mark.parametrize("what", measure.COUNTED)
def test_no_more_instructions_than_the_baseline(counter: measure.Counter, what: str) -> None:
    made, counts = measure.read_baseline()
    if differs := measure.difference(made):
        pytest.skip(f"{differs}; ratios are compared instead ('make bench-baseline' makes a baseline for this one)")
    assert not (why := measure.complaint(what, counter.count(what), counts[what])), why


@pytest.mark.parametrize("what", ["call", "frame", "outline"])
def test_a_call_against_a_plain_pointer(counter: measure.Counter, what: str) -> None:
    _, counts = measure.read_baseline()
    ratio = counter.count(what).instructions / counter.count("plain").instructions
    allowed = counts[what].instructions / counts["plain"].instructions * RATIO_ALLOWED
    assert ratio <= allowed, f"{what}: {ratio:.2f} times a plain pointer call, {allowed:.2f} allowed"


def test_calls_leave_our_code_only_for_what_they_call(counter: measure.Counter) -> None:
    assert {what: counter.count(what).calls_outside for what in ("call", "frame", "outline")} == {
        "call": 0, "frame": 0, "outline": 0,
    }  # fmt: skip


def test_eleven_percent_more_is_a_regression_and_nine_are_none() -> None:
    baseline = Count(1000, 10)
    assert not measure.complaint("commit", Count(1090, 10), baseline)
    assert "1,110.0 instructions, +11%" in measure.complaint("commit", Count(1110, 10), baseline)
    assert "12.0 calls into other libraries" in measure.complaint("commit", Count(1000, 12), baseline)
    assert measure.complaint("call", Count(34, 1), Count(34, 0))


def test_only_our_own_code_is_counted() -> None:
    text = """\
events: Ir
ob=(1) /somewhere/counted
fl=(1) counted.c
fn=(1) counted_commit
10 5
+2 7
cob=(2) /lib/libc.so.6
cfn=(2) memcpy
calls=3 0
* 900
cfn=(3) assign
calls=4 20
+1 80
ob=(2)
fn=(2)
0 900
ob=(1)
fn=(3)
20 80
totals: 992
"""
    assert measure.parse(text, "counted") == Count(92, 3)
