"""The report of the benchmark: what counts as disturbed, met and better, and where it is written."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def report(root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_report", root / "tests" / "bench" / "report.py")
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = made
    spec.loader.exec_module(made)
    return made


def paces(ours: float, plain: float, wait: float = 1.0, count: int = 4) -> dict[str, list[float]]:
    """A row of (a): each thread waited for a core ``wait`` times as long as it ran."""
    return {
        "cpu_ns": [ours] * count, "wall_ns": [ours * wait] * count,
        "plain_cpu_ns": [plain] * count, "plain_wall_ns": [plain] * count,
    }  # fmt: skip


def data(results: dict[str, Any]) -> dict[str, Any]:
    labels = {"hotreload": "us", "hotreload-watch": "us, watching", "hotpatch-rs": "them", "dlopen-copy": "copying"}
    return {
        "machine": {"cores": 2, "processor": "a processor", "memory_gib": 1, "system": "a system"}, "versions": {},
        "date": "2026-01-02T03:04:05+00:00", "quick": False, "load_before": [0.0], "load_after": [0.0], "effort": {},
        "peers": labels, "results": results,
    }  # fmt: skip


def claims(report: ModuleType, results: dict[str, Any]) -> dict[str, bool]:
    return {each.what: each.met for each in report.Report(data(results)).claims()}


def test_repetitions_that_waited_for_a_core_do_not_count(report: ModuleType) -> None:
    row = paces(3.0, 3.0, count=4)
    for key, value in paces(30.0, 3.0, wait=4.0, count=6).items():
        row[key] += value
    found = report.call(row, threads=2, cores=2)
    assert (found.ratio, found.used, found.made) == (1.0, 4, 10)
    # Four threads on two cores run half of the time, and that is their share.
    assert report.call(paces(3.0, 3.0, wait=2.0), threads=4, cores=2).used == 4
    # Where hardly any is left, all of them are told.
    assert report.call(paces(30.0, 3.0, wait=4.0), threads=1, cores=2).ratio == 10.0


def test_claims_are_met_or_missed_by_their_targets(report: ModuleType) -> None:
    calls = {"hotreload": {"1": paces(3.0, 3.0), "2": paces(3.6, 3.0)},
             "hotpatch-rs": {"1": paces(15.0, 3.0), "2": paces(60.0, 3.0)}}  # fmt: skip
    swaps = {"hotreload": {"us": [300.0]}, "dlopen-copy": {"us": [100.0]}, "hotreload-watch": {"us": [1000.0, 4999.0]}}
    found = claims(report, {"calls": calls, "swaps": swaps})
    assert found == {
        "a call against a plain pointer, 1 thread": True,
        "a call against a plain pointer, 2 threads": False,
        "calls faster than hotpatch-rs's, 1 thread": True,
        "calls faster than hotpatch-rs's, 2 threads": False,
        "swap p50 against copying the file, dlopen and dlsym": False,
        "final write to live, p95": True,
    }


def test_a_longest_call_beyond_the_noise_at_rest_is_told(report: ModuleType) -> None:
    resting = [1.0] * 99 + [100.0]

    def met(worst_of_each_tenth: float, worst: float) -> bool:
        swapping = ([1.0] * 9 + [worst_of_each_tenth]) * 9 + [worst] * 10
        row = {"swapping_us": swapping, "resting_us": resting, "missed": 0}
        (only,) = claims(report, {"longest": {"hotreload": row}}).values()
        return only

    assert met(100.0, 100.0)
    assert met(100.0, 5000.0)  # once in ten it was the scheduler's doing
    assert not met(101.0, 101.0)


def test_a_host_that_dies_is_no_survivor(report: ModuleType) -> None:
    row = {"truncated": {"verdict": "refused"}, "crash": {"verdict": "died"}, "strip": {"verdict": "n/a"}}
    made = report.Report(data({"survive": {"hotreload": row}}))
    assert made.survived_cases("hotreload") == (1, 2)
    assert claims(report, {"survive": {"hotreload": row}}) == {"cases of the corpus survived by us": False}


def test_the_readme_gets_the_overview_between_its_marks(report: ModuleType, root: Path) -> None:
    begin, end = report.MARKS
    assert report.between_marks(f"before\n{begin}\nold\n{end}\nafter", ["new"]) == f"before\n{begin}\nnew\n{end}\nafter"
    with pytest.raises(ValueError, match="no <!-- peers"):
        report.between_marks("no marks", ["new"])
    text = report.between_marks((root / "README.md").read_text(), report.Report(data({})).readme())
    assert "Measured on 2026-01-02 (a processor, 2 cores, a system)." in text
