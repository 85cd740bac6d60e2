"""`hotreload history` and `rollback --to` over several lives of real hosts."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from integration.harness import PATIENCE_SECONDS, Bench


def entered(bench: Bench, *arguments: str, at_least: int = 0) -> list[dict[str, Any]]:
    """The history; waits until it has this many entries, as a watcher writes beside its work."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        done = bench.call("history", "--json", *arguments)
        assert done.code == 0, done
        found: list[dict[str, Any]] = json.loads(done.out)
        if len(found) >= at_least or time.monotonic() > deadline:
            return found
        time.sleep(0.1)


def told(entries: list[dict[str, Any]]) -> list[tuple[str, int, str]]:
    return [(each["event"], each["module"]["version"], each["host"]["name"]) for each in entries]


def test_the_journal_of_commands(bench: Bench) -> None:
    bench.host("game")
    assert bench.call("load", bench.module(1)).code == 0
    assert bench.call("load", bench.module(1)).code == 0  # the same: nothing is swapped
    assert bench.call("load", bench.module(2, on_load="return 1;")).code == 3
    assert bench.call("load", bench.module(3)).code == 0
    assert bench.call("rollback").code == 0
    found = entered(bench)
    assert told(found) == [("swap", 1, "game"), ("swap", 3, "game"), ("rollback", 3, "game")]
    assert [each["number"] for each in found] == [1, 2, 3]
    assert found[1]["slots"] == [{"symbol": "a", "from": 1, "to": 2}]
    assert all(Path(each["retained"]).is_file() for each in found)
    text = bench.call("history").out
    assert "v3" in text and "rollback" in text and "yes" in text
    assert told(entered(bench, "-n", "1")) == [("rollback", 3, "game")]
    assert entered(bench, "nobody") == []


def test_a_watcher_enters_what_it_does_and_what_it_sees(bench: Bench) -> None:
    host = bench.host("game")
    first, second = bench.watch(), bench.watch()
    for each in (first, second):
        each.event("attach")
    bench.put(bench.module(1))
    host.runs(a=1)
    assert bench.call("load", bench.module(2)).code == 0
    host.runs(a=2)
    for each in (first, second):
        each.event("swap", version=2)
        assert each.interrupt() == 130
    assert told(entered(bench, at_least=2)) == [("swap", 1, "game"), ("swap", 2, "game")], "each swap is entered once"


def test_a_version_of_an_earlier_life_comes_back(bench: Bench) -> None:
    first = bench.host("game")
    for version in (1, 2):
        module = bench.module(version)
        assert bench.call("load", module).code == 0
        module.unlink()
    first.kill()
    bench.host("bystander", "other.slot")
    later = bench.host("game")
    done = bench.call("rollback", "m", "--to", "1", "--json")
    assert done.code == 0, done
    (event,) = done.json
    assert event["event"] == "swap" and event["module"]["version"] == 1 and event["host"]["name"] == "game"
    later.runs(a=1)
    assert bench.call("rollback", "--to", entered(bench)[1]["module"]["build_id"][:8]).code == 0
    later.runs(a=2)
    assert bench.call("rollback", "--to", "#1").code == 0
    later.runs(a=1)
    later.check_state()
    found = entered(bench)
    assert told(found) == [("swap", version, "game") for version in (1, 2, 1, 2, 1)]
    assert {each["host"]["pid"] for each in found} == {first.pid, later.pid}
    bystander = json.loads(bench.call("slots", "--json", "--host", "bystander").out)
    assert [each["symbol"] for each in bystander[0]["slots"]] == ["other.slot"], (
        "only hosts with its slots are concerned"
    )


def test_quarantine_holds_for_retained_versions(bench: Bench) -> None:
    host = bench.host("game")
    for version in (1, 2):
        assert bench.call("load", bench.module(version)).code == 0
    assert bench.call("rollback").code == 0
    done = bench.call("rollback", "--to", "2", "--json")
    assert done.code == 3 and done.json[0]["code"] == "E-QUARANTINED"
    host.runs(a=1)
    host.check_state()


def test_what_cannot_be_brought_back(bench: Bench) -> None:
    bench.host("game")
    assert bench.call("load", bench.module(1)).code == 0
    done = bench.call("rollback", "--to", "9")
    assert done.code == 1 and "E-NO-PREVIOUS" in done.err and "hotreload history" in done.err
    other = bench.work / "other-9.c"
    assert bench.call("load", bench.module(5, extra="static int other;")).code == 0
    assert bench.call("load", bench.module(5, extra="int other_one;")).code == 0, other
    done = bench.call("rollback", "m", "--to", "5")
    assert done.code == 2 and "2 different modules" in done.err and "name one by its id" in done.err


def test_without_a_host_that_has_the_slots(bench: Bench) -> None:
    host = bench.host("game")
    assert bench.call("load", bench.module(1)).code == 0
    host.kill()
    assert bench.call("rollback", "--to", "1").code == 4
    bench.host("bystander", "other.slot")
    done = bench.call("rollback", "--to", "1")
    assert done.code == 4 and "no running host has a slot of this module" in done.err


def test_other_projects_are_shown_on_demand(bench: Bench) -> None:
    bench.host("game")
    assert bench.call("load", bench.module(1)).code == 0
    journal = bench.state / "hotreload" / "history" / "journal.jsonl"
    journal.write_text(journal.read_text().replace(str(bench.work), "/elsewhere"))
    assert entered(bench) == [] and len(entered(bench, "--all")) == 1
    assert "--all" in bench.call("history").out


def test_a_history_that_cannot_be_written_fails_nothing(bench: Bench) -> None:
    host = bench.host("game")
    (bench.state / "hotreload").mkdir(mode=0o700, exist_ok=True)
    (bench.state / "hotreload" / "history").write_text("in the way")
    done = bench.call("load", bench.module(1))
    assert done.code == 0 and "not entered into the history" in done.err
    host.runs(a=1)
