"""`hotreload events` beside real hosts, and the published schema of what it and the other commands print."""

from __future__ import annotations

import json
import os
import signal

import pytest
from integration.harness import Bench, Json, check_event

BESIDE = ("retire", "called")
"""Kinds that come when a thread has left or entered a slot."""


def story(events: list[Json]) -> list[tuple[str, object]]:
    """Kind, and version or code, of each event."""
    return [
        (each["event"], each.get("code") or each.get("module", {}).get("version"))
        for each in events
        if each["event"] not in BESIDE
    ]


def test_events_tell_what_has_happened(bench: Bench) -> None:
    first, second = bench.host("first"), bench.host("second")
    bad = bench.module(2, on_load="return 7;")
    assert bench.call("load", "--host", "first", bench.module(1)).code == 0
    assert bench.call("load", "--host", "second", bad).code == 3
    assert bench.call("rollback", "--host", "first").code == 0
    told = [each for each in bench.call("events", "--json").json if each["event"] not in BESIDE]
    assert story(told) == [("swap", 1), ("reject", "E-ON-LOAD"), ("rollback", 1)]
    assert [each["host"]["pid"] for each in told] == [first.pid, second.pid, first.pid]
    assert told[0]["slots"] == [{"symbol": "a", "from": 0, "to": 1}]
    assert told[0]["module"]["name"] == "m" and told[1]["fix"] and told[1]["expected"] == "status 0"
    assert story(bench.call("events", "--json", "--host", "second").json) == [("reject", "E-ON-LOAD")]
    lines = bench.call("events").out.splitlines()
    assert "swap" in lines[0] and any("E-ON-LOAD" in line for line in lines)


def test_events_without_a_host(bench: Bench) -> None:
    done = bench.call("events", "--json")
    assert (done.code, done.out) == (4, "") and json.loads(done.err)["code"] == "E-NO-HOST"


def test_follow_tells_of_hosts_that_come_and_go(bench: Bench) -> None:
    follow = bench.follow()
    host = bench.host("game")
    follow.event("attach", pid=host.pid)
    bench.call("load", bench.module(1))
    follow.event("swap", version=1, pid=host.pid)
    watch = bench.watch()
    watch.event("attach")
    bench.put(bench.module(2))
    watch.event("swap", version=2)
    follow.event("swap", version=2, pid=host.pid)
    later = bench.host("later")
    follow.event("attach", pid=later.pid)
    follow.event("swap", version=2, pid=later.pid)
    host.kill()
    follow.event("detach", pid=host.pid)
    later.check_state()
    assert follow.interrupt() == 130


def test_follow_begins_with_the_past(bench: Bench) -> None:
    host = bench.host("game")
    for version in (1, 2):
        assert bench.call("load", bench.module(version)).code == 0
    follow = bench.follow("--host", "game")
    follow.event("attach", pid=host.pid)
    assert [each["module"]["version"] for each in follow.events("swap")] == [1, 2]


def test_follow_of_a_named_host_keeps_to_it(bench: Bench) -> None:
    bench.host("other")
    host = bench.host("game")
    follow = bench.follow("--host", "game")
    follow.event("attach", pid=host.pid)
    assert bench.call("load", bench.module(1)).code == 0
    follow.event("swap", pid=host.pid)
    assert {each["host"]["name"] for each in follow.events()} == {"game"}


def test_a_stopped_host_holds_up_no_follower(bench: Bench) -> None:
    stopped = bench.host("stopped")
    os.kill(stopped.pid, signal.SIGSTOP)
    try:
        follow = bench.follow()
        host = bench.host("game")
        follow.event("attach", pid=host.pid)
        assert follow.events(pid=stopped.pid) == []
    finally:
        os.kill(stopped.pid, signal.SIGCONT)
    follow.event("attach", pid=stopped.pid)


# ---- the schema ----


def test_schema_is_printed(bench: Bench) -> None:
    done = bench.call("events", "--schema")
    assert done.code == 0
    schema = json.loads(done.out)
    assert schema["$schema"].endswith("2020-12/schema")
    assert set(schema["properties"]["event"]["enum"]) >= {"swap", "reject", "rollback"}


def test_schema_describes_every_kind_and_no_other(bench: Bench) -> None:
    from hotreload.model import EventKind

    schema = json.loads(bench.call("events", "--schema").out)
    assert set(schema["properties"]["event"]["enum"]) == {kind.value for kind in EventKind} - {"note"}


EVENT: Json = {"event": "swap", "time": "2026-01-31T09:30:00.250Z"}


@pytest.mark.parametrize(
    "fault",
    [
        {"event": "swapped"},
        {"event": "note"},
        {"time": 12.5},
        {"time": "2026-01-31T09:30:00Z"},
        {"host": {"pid": 0, "name": "game"}},
        {"host": {"pid": 1}},
        {"module": {"name": "m"}},
        {"slots": [{"symbol": "a", "from": "0", "to": 1}]},
        {"slots": []},
        {"code": "ok"},
        {"us": {"total": 1.5}},
        {"surprise": 1},
    ],
    ids=str,
)
def test_schema_refuses(fault: Json) -> None:
    check_event(EVENT)
    with pytest.raises(AssertionError, match="not what the schema says"):
        check_event({**EVENT, **fault})
