"""Trial runs: a forked copy of the host makes the next call with the new code before the host opens it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from integration.harness import Bench, HostProgram

HR_SERVE_NO_FORK = 4
CONSTRUCTOR = "__attribute__((constructor)) static void boom(void) { *(volatile int *)8 = 1; }"
EXIT = "#include <stdlib.h>\n"


def trial(bench: Bench, module: Any, seconds: int = 5) -> tuple[int, dict[str, Any]]:
    """Far more than it takes: on a busy machine a copy may wait long for a processor."""
    done = bench.call("load", "--json", "--trial-seconds", str(seconds), module)
    return done.code, json.loads(done.out)


def undisturbed(host: HostProgram) -> None:
    """The host still runs its fallback, and no call of a copy has touched its state."""
    assert host.alive and host.now().values == {"a": 0}
    host.check_state()


@pytest.mark.parametrize(
    ("body", "options", "code", "found"),
    [
        ("*(volatile int *)8", {}, "E-CRASH", "signal 11"),
        ("(exit(3), 0)", {"extra": EXIT}, "E-TRIAL", "ended with status 3"),
        ("7", {}, "E-TRIAL", "status 7"),
        ("({ for (;;) { } 0; })", {}, "E-HANG", "in the call"),
        ("0", {"extra": CONSTRUCTOR}, "E-CRASH", "while the module was opened"),
        ("0", {"on_load": "for (;;) { } return 0;"}, "E-HANG", "in on_load"),
    ],
    ids=["crash", "exit", "status", "hang", "constructor", "on_load"],
)
def test_a_bad_patch_is_refused_before_it_runs_in_the_host(
    body: str, options: dict[str, str], code: str, found: str, bench: Bench
) -> None:
    host = bench.host("game", "a")
    status, told = trial(bench, bench.module(1, slots={"a": body}, **options), 1 if code == "E-HANG" else 5)
    assert (status, told["event"], told["code"]) == (3, "reject", code), told
    assert found in told["found"] and told["fix"] and told["expected"]
    if "returned" in told["expected"]:
        assert told["expected"] == "what v0 does: it returned 0"
    undisturbed(host)


def test_a_good_patch_is_swapped_and_called_once_a_tick(bench: Bench) -> None:
    host = bench.host("game", "a", "b")
    done = bench.call("load", "--trial-seconds", "5", bench.module(1, slots={"a": "0", "b": "0"}))
    assert done.code == 0 and "swap" in done.out and "untried" not in done.out, done
    (found,) = json.loads(bench.call("slots", "--json").out)
    assert [slot["version"] for slot in found["slots"]] == [1, 1]
    host.check_state()


def test_what_one_call_does_not_show_the_next_does(bench: Bench) -> None:
    """Every second call of the patch returns another status than the fallback does."""
    host = bench.host("game", "a")
    status, told = trial(bench, bench.module(1, slots={"a": "((host_state *)state)->count % 2 ? 7 : 0"}))
    assert (status, told["code"], told["found"]) == (3, "E-TRIAL", "status 7"), told
    undisturbed(host)


def test_programs_are_told_what_a_trial_took_and_what_it_left_out(bench: Bench) -> None:
    bench.host("game", "a")
    status, told = trial(bench, bench.module(1, slots={"a": "0"}))
    assert (status, told["event"]) == (0, "swap") and told["us"]["total"] >= told["us"]["trial"] > 0
    assert "untried" not in told.get("warnings", [])
    status, told = trial(bench, bench.module(2, slots={"other": "1"}), 1)
    assert (status, told["event"]) == (0, "swap") and "untried" in told["warnings"]


def test_more_slots_than_are_tried_are_told(bench: Bench) -> None:
    names = [f"s{i}" for i in range(17)]
    host = bench.host("game", *names)
    done = bench.call("load", "--trial-seconds", "5", bench.module(1, slots=dict.fromkeys(names, "0")))
    assert done.code == 0 and "untried" in done.out, done
    host.check_state()


def test_a_slot_that_nobody_calls_is_only_opened(bench: Bench) -> None:
    host = bench.host("game", "a")
    done = bench.call("load", "--trial-seconds", "1", bench.module(1, slots={"other": "1"}))
    assert done.code == 0 and "untried" in done.out
    status, told = trial(bench, bench.module(2, slots={"other": "1"}, extra=CONSTRUCTOR), 1)
    assert (status, told["code"]) == (3, "E-CRASH")
    undisturbed(host)


def test_a_host_that_a_copy_would_harm_says_so(bench: Bench) -> None:
    host = bench.host("game", "a", SERVE=str(HR_SERVE_NO_FORK))
    done = bench.call("load", "--trial", bench.module(1, slots={"a": "1"}))
    assert done.code == 1 and "E-USAGE" in done.err and "does not offer" in done.err
    undisturbed(host)
    watch = bench.watch("--trial", "--plain")
    watch.says("does not offer")
    bench.put(bench.module(1, slots={"a": "1"}))
    host.runs(a=1)
