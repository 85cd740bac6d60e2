"""Callers of every kind against 20,000 commits, rollbacks and rejections, plainly and under sanitizers.

The program is torture.c; it checks itself and prints what it did. sanitize.sh builds and runs it; the sanitized runs do
less here than in ``make sanitize``, so that the tests stay quick.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from conftest import skip_here

SCRIPT = Path(__file__).resolve().parent / "sanitize.sh"


def torture(kind: str, *, changes: int, real: int, parts: str = "torture guard") -> str:
    """Runs one kind of torture and returns what the program printed; its report is the failure's text."""
    sizes = {"CHANGES": str(changes), "REAL": str(real), "CRASHES": "20", "PARTS": parts}
    done = subprocess.run([SCRIPT, kind], capture_output=True, text=True, env=os.environ | sizes, check=False)
    if done.returncode != 0:
        pytest.fail(f"{done.stdout}{done.stderr}", pytrace=False)
    return done.stdout


def links_with(cc: str, flag: str, directory: Path) -> bool:
    """Whether the compiler brings the sanitizer's library."""
    probe = directory / "probe.c"
    probe.write_text("int main(void) { return 0; }\n", encoding="utf-8")
    command: list[str | Path] = [cc, flag, "-o", directory / "probe", probe]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def test_20000_changes_under_callers(cc: str) -> None:
    """No torn pair, exact totals, flat memory (T1 to T5 of torture.c)."""
    printed = torture("plain", changes=20_000, real=200, parts="torture")  # the guard's plain ones: test_guard.py
    found = re.findall(r"(\d+) (loads|rollbacks|publications|refused)", printed)
    counts = {name: int(number) for number, name in found}
    changed = re.search(r"^(\d+) changes", printed, re.MULTILINE)
    assert changed is not None and int(changed[1]) >= 20_000, printed
    assert counts["loads"] >= 200 and counts["rollbacks"] >= 90, printed
    assert counts["publications"] > 5_000 and counts["refused"] > 2_000, printed


@pytest.mark.parametrize(("kind", "flag"), [("thread", "-fsanitize=thread"), ("address", "-fsanitize=address")])
def test_sanitizers_report_nothing(kind: str, flag: str, cc: str, tmp_path: Path) -> None:
    """The same program, smaller, under ThreadSanitizer and under AddressSanitizer with UBSan."""
    if not links_with(cc, flag, tmp_path):
        skip_here(f"{cc} cannot link {flag}")
    assert "changes" in torture(kind, changes=3_000, real=40)
