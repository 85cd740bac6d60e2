"""Guard rails: the call path, preflight and commits take no more instructions than the committed baseline allows."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import measure

ALLOWED = 1.10
RATIO_ALLOWED = 1.25
"""For ratios, which are compared across compilers too: one may take an instruction or two more than another."""

WHY_NOT = measure.missing()
pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=f"instructions cannot be counted: {WHY_NOT}")

baseline: dict[str, dict[str, float]] = json.loads(measure.BASELINE.read_text())


@pytest.fixture(scope="module")
def counter(tmp_path_factory: pytest.TempPathFactory) -> measure.Counter:
    return measure.Counter(tmp_path_factory.mktemp("counted"))


def difference() -> str:
    """In what this machine differs from the baseline's; empty when counts can be compared."""
    here = measure.environment()
    return "; ".join(f"{key}: {here[key]!r}, not {value!r}" for key, value in baseline["environment"].items()
                     if here[key] != value)  # fmt: skip


@pytest.mark.parametrize("what", measure.COUNTED)
def test_no_more_instructions_than_the_baseline(counter: measure.Counter, what: str) -> None:
    if differs := difference():
        pytest.skip(f"the baseline was made elsewhere ({differs}); ratios are compared instead")
    counted, allowed = counter.count(what), baseline["instructions"][what] * ALLOWED
    assert counted <= allowed, f"{what}: {counted:,.1f} instructions, {allowed:,.1f} allowed; see measure.py --update"


@pytest.mark.parametrize("what", ["call", "frame", "outline"])
def test_a_call_against_a_plain_pointer(counter: measure.Counter, what: str) -> None:
    ratio = counter.count(what) / counter.count("plain")
    allowed = baseline["instructions"][what] / baseline["instructions"]["plain"] * RATIO_ALLOWED
    assert ratio <= allowed, f"{what}: {ratio:.2f} times a plain pointer call, {allowed:.2f} allowed"
