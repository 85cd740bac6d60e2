"""Proof that the new code runs: first calls, slots that nobody calls, sampled call times."""

from __future__ import annotations

import json
from typing import Any

from integration.harness import Bench, HostProgram

SLEEP = "#include <time.h>\n"


def sleeping(milliseconds: int, value: int) -> str:
    """The body of an entry that takes its time."""
    return f"(nanosleep(&(struct timespec){{0, {milliseconds}000000}}, 0), {value})"


def slots_of(bench: Bench, host: HostProgram) -> dict[str, dict[str, Any]]:
    (found,) = json.loads(bench.call("slots", "--json", "--host", str(host.pid)).out)
    return {each["symbol"]: each for each in found["slots"]}


def test_the_first_call_of_a_new_version_is_an_event(bench: Bench) -> None:
    host = bench.host("game", "a", "b")
    watch = bench.watch()
    watch.event("attach")
    bench.put(bench.module(1, slots={"a": "1"}))
    told = watch.event("called")
    assert told["host"]["pid"] == host.pid and told["module"]["name"] == "m"
    assert told["slots"] == [{"symbol": "a", "from": 1, "to": 1}]
    assert 0 <= told.get("us", {}).get("total", 0) < 60_000_000
    bench.put(bench.module(2, slots={"a": "2", "b": "2"}))
    watch.event("called", 2)
    host.runs(a=2, b=2)
    for symbol, version in (("a", 2), ("b", 1)):  # in one event, or in two where the engine is quick
        slot = {"symbol": symbol, "from": version, "to": version}
        watch.output.find(lambda line, slot=slot: slot in json.loads(line).get("slots", []))  # type: ignore[misc]
    called = [slot for event in watch.events("called") for slot in event["slots"]]
    assert sorted((slot["symbol"], slot["to"]) for slot in called) == [("a", 1), ("a", 2), ("b", 1)]
    told_so_far = len(watch.events("called"))
    for slot in slots_of(bench, host).values():
        assert slot["first_called"] >= slot["swapped_at"]
    assert bench.call("rollback").code == 0
    host.runs(a=1, b=0)
    watch.event("called", told_so_far + 1)


def test_a_slot_that_nobody_calls_says_so(bench: Bench) -> None:
    host = bench.host("game", "a")
    before = slots_of(bench, host)["a"]
    assert before["first_called"] is None and before["swapped_at"] is None
    assert bench.call("load", bench.module(1, slots={"a": "1", "forgotten": "1"})).code == 0
    host.runs(a=1)
    slots = slots_of(bench, host)
    assert slots["a"]["first_called"] and slots["forgotten"]["first_called"] is None
    lines = bench.call("slots").out.splitlines()
    (line,) = (line for line in lines if line.startswith("forgotten"))
    assert "not called since the swap" in line
    (line,) = (line for line in lines if line.startswith("a "))
    assert "after it" in line


def test_call_times_of_a_version_beside_those_of_the_one_before(bench: Bench) -> None:
    host = bench.host("game", "a")
    assert "times" not in slots_of(bench, host)["a"]
    quick = bench.module(1, slots={"a": sleeping(2, 1)}, extra=SLEEP)
    slow = bench.module(2, slots={"a": sleeping(20, 2)}, extra=SLEEP)
    assert bench.call("load", "--sample-every", "1", quick).code == 0
    host.runs(a=1)
    while (slots_of(bench, host)["a"]["times"] or {}).get("samples", 0) < 5:
        pass
    assert bench.call("load", slow).code == 0
    host.runs(a=2)
    while not (slots_of(bench, host)["a"]["times"] or {}).get("samples"):
        pass
    told = slots_of(bench, host)["a"]
    now, before = told["times"], told["previous_times"]
    assert (now["version"], before["version"]) == (2, 1) and before["samples"] >= 5
    # Never shorter than the sleep, but for an eighth (a bucket's width); how much longer is the machine's affair.
    assert before["p50_ns"] >= 2_000_000 * 7 / 8 and now["p50_ns"] >= 20_000_000 * 7 / 8
    assert before["p50_ns"] <= before["p99_ns"] and now["p50_ns"] <= now["p99_ns"]
    text = bench.call("slots").out
    assert "TOOK" in text and "p50" in text and "v1:" in text


def test_watch_asks_every_host_to_sample(bench: Bench) -> None:
    first = bench.host("first", "a")
    watch = bench.watch("--sample")
    watch.event("attach", pid=first.pid)
    second = bench.host("second", "a")
    watch.event("attach", pid=second.pid)
    for host in (first, second):
        assert "times" in slots_of(bench, host)["a"]
