"""The commands that answer once: ``load``, ``rollback``, ``ps``, ``slots``, ``inspect``."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from integration.terminal import Terminal

if TYPE_CHECKING:
    from pathlib import Path

    from integration.harness import Bench, HostProgram, Json

VETO = 7
SLOT_KEYS = {
    "swapped_at", "first_called",
    "symbol", "version", "module", "module_version", "build_id", "calls", "calls_on_version", "in_flight", "state",
    "layout",
}  # fmt: skip
MODULE_KEYS = {"name", "version", "build_id", "path", "state", "reason", "bytes", "resident", "mappings"}


def build_id(module: Path) -> str:
    notes = subprocess.run(["readelf", "-n", module], capture_output=True, text=True, check=True).stdout
    return notes.partition("Build ID: ")[2].split()[0]


def slots_of(bench: Bench, host: HostProgram) -> Json:
    (found,) = json.loads(bench.call("slots", "--json", "--host", str(host.pid)).out)
    assert found.keys() == {"host", "generation", "blocked", "resident", "slots", "modules"}
    assert found["host"] == {"pid": host.pid, "name": host.name}
    assert all(each.keys() == SLOT_KEYS for each in found["slots"])
    assert all(each.keys() == MODULE_KEYS for each in found["modules"])
    answer: Json = found
    return answer


# ---- load ----


def test_load_as_json(bench: Bench) -> None:
    host = bench.host()
    module = bench.module(3)
    done = bench.call("load", "--json", module)
    (told,) = done.json
    assert done.code == 0 and done.err == ""
    assert told["event"] == "swap" and told["host"] == {"pid": host.pid, "name": "game"}
    assert told["module"] == {"name": "m", "version": 3, "build_id": build_id(module), "path": str(module)}
    assert told["slots"] == [{"symbol": "a", "from": 0, "to": 1}]
    assert told["us"]["total"] >= max(us for step, us in told["us"].items() if step != "total")
    host.runs(a=3)
    again = bench.call("load", "--json", module)
    assert again.code == 0 and [event["event"] for event in again.json] == ["same"]
    host.check_state()


def test_load_in_words(bench: Bench) -> None:
    host = bench.host()
    done = bench.call("load", "--color", "always", bench.module(1))
    assert done.code == 0 and "m v1" in done.out and "a v0→v1" in done.out
    assert "\x1b[" not in done.out  # NO_COLOR is set
    bad = bench.work / "bad.so"
    bad.write_text("no module")
    done = bench.call("load", bad)
    assert done.code == 3
    for part in ("E-NOT-ELF", "found: ", "expected: ", "fix: ", "nothing was swapped"):
        assert part in done.out
    assert host.check_state().values == {"a": 1}


def test_modules_of_one_load_swap_together_or_not_at_all(bench: Bench) -> None:
    host = bench.host("game", "a", "b")
    first = [bench.module(1, name, slots={name: "1"}) for name in ("a", "b")]
    assert bench.call("load", *first).code == 0
    host.runs(a=1, b=1)
    good, bad = bench.module(2, "a", slots={"a": "2"}), bench.work / "b-2.so"
    bad.write_bytes(first[1].read_bytes()[:2000])
    done = bench.call("load", "--json", good, bad)
    assert done.code == 3
    assert [event["code"] for event in done.json] == ["E-ABORTED", "E-TRUNCATED"]
    assert host.check_state().values == {"a": 1, "b": 1}
    assert bench.call("load", good, bench.module(2, "b", slots={"b": "2"})).code == 0
    host.runs(a=2, b=2)
    host.check_state()
    assert all(each.values["a"] == each.values["b"] for each in host.ticks())
    assert slots_of(bench, host)["generation"] == 2


def test_load_reaches_all_hosts_or_none(bench: Bench) -> None:
    willing, refusing = bench.host("willing"), bench.host("refusing", VETO=str(VETO))
    vetoed = bench.module(1, on_load="return state->veto;")
    done = bench.call("load", "--json", vetoed)
    assert done.code == 3
    assert {event["host"]["name"]: event["code"] for event in done.json} == {
        "willing": "E-ABORTED",
        "refusing": "E-ON-LOAD",
    }
    assert willing.check_state().values == refusing.check_state().values == {"a": 0}
    assert bench.call("load", "--host", "willing", vetoed).code == 0
    willing.runs(a=1)
    assert refusing.check_state().values == {"a": 0}


def test_load_takes_paths_relative_to_where_it_is_called(bench: Bench) -> None:
    host = bench.host()
    bench.put(bench.module(1))
    assert bench.call("load", "out/m.so").code == 0
    host.runs(a=1)


def test_a_slot_that_no_host_declares_is_told(bench: Bench) -> None:
    host = bench.host()
    assert bench.call("load", bench.module(1, slots={"a": "1", "typo": "1"})).code == 0
    states = {each["symbol"]: each["state"] for each in slots_of(bench, host)["slots"]}
    assert states == {"a": "live", "typo": "undeclared"}
    done = bench.call("load", bench.module(2, slots={"a": "2", "typo": "2"}))
    assert "typo v1→v2 (no host slot declares it)" in done.out
    done = bench.call("load", bench.module(3))
    assert "typo keeps v2" in done.out


# ---- rollback ----


def test_roll_back_the_newest(bench: Bench) -> None:
    host = bench.host()
    modules = [bench.module(version) for version in (1, 2)]
    for version, module in enumerate(modules, 1):
        assert bench.call("load", module).code == 0
        host.runs(a=version)
    done = bench.call("rollback", "--json")
    (told,) = done.json
    assert done.code == 0 and told["event"] == "rollback"
    assert told["module"]["version"] == 2 and told["slots"] == [{"symbol": "a", "from": 2, "to": 3}]
    host.runs(a=1)
    again = bench.call("load", "--json", modules[1])
    assert again.code == 3 and again.json[0]["code"] == "E-QUARANTINED"
    assert bench.call("rollback").code == 0
    host.runs(a=0)
    done = bench.call("rollback", "--json")
    assert done.code == 1
    assert done.json[0]["code"] == "E-NO-PREVIOUS" and done.json[0]["fix"]
    host.check_state()
    assert host.history("a") == [0, 1, 2, 1, 0]


def test_roll_back_by_name(bench: Bench) -> None:
    host = bench.host("game", "a", "b")
    for name in ("a", "b"):
        assert bench.call("load", bench.module(1, name, slots={name: "1"})).code == 0
    assert bench.call("rollback", "nobody").code == 1
    assert host.check_state().values == {"a": 1, "b": 1}
    assert bench.call("rollback", "a").code == 0
    host.runs(a=0, b=1)
    host.check_state()


# ---- ps, slots ----


def test_ps(bench: Bench) -> None:
    nobody = bench.call("ps")
    assert nobody.code == 0 and "no host is running" in nobody.out
    assert json.loads(bench.call("ps", "--json").out) == []
    first, second = bench.host("first"), bench.host("second", "a", "b")
    assert bench.call("load", bench.module(1)).code == 0
    told = json.loads(bench.call("ps", "--json").out)
    by_pid = sorted((first, second), key=lambda host: host.pid)
    assert [each["host"] for each in told] == [{"pid": host.pid, "name": host.name} for host in by_pid]
    assert {each["host"]["name"]: each["slots"] for each in told} == {"first": 1, "second": 2}
    assert [each["generation"] for each in told] == [1, 1]
    shown = bench.call("ps").out
    assert all(str(host.pid) in shown and host.name in shown for host in (first, second))
    assert len(json.loads(bench.call("ps", "--json", "--host", "second").out)) == 1
    second.kill()
    assert [each["host"]["pid"] for each in json.loads(bench.call("ps", "--json").out)] == [first.pid]


def test_slots_count_every_call(bench: Bench) -> None:
    host = bench.host("brief", "a", "b")
    module = bench.module(5, slots={"b": "5"})
    assert bench.call("load", module).code == 0
    host.runs(b=5)
    before = host.now()
    told = slots_of(bench, host)
    after = host.now()
    plain, patched = told["slots"]
    assert (plain["symbol"], plain["state"], plain["version"], plain["module"]) == ("a", "fallback", 0, None)
    assert patched == {
        **patched, "symbol": "b", "version": 1, "module": "m", "module_version": 5, "build_id": build_id(module),
        "state": "live",
    }  # fmt: skip
    for each in (plain, patched):
        assert before.ticks <= each["calls"] <= after.ticks
    assert 0 < patched["calls_on_version"] < patched["calls"] and plain["calls_on_version"] == plain["calls"]
    (only,) = told["modules"]
    assert only == {
        "name": "m", "version": 5, "build_id": build_id(module), "path": str(module), "state": "live", "reason": "",
        "bytes": only["bytes"], "resident": 0, "mappings": 0,
    }  # fmt: skip
    text = bench.call("slots").out
    assert "brief" in text and "fallback" in text and "m v5" in text


def test_retired_modules_are_listed(bench: Bench) -> None:
    host = bench.host()
    for version in (1, 2):
        assert bench.call("load", bench.module(version)).code == 0
    host.runs(a=2)
    told = {each["version"]: (each["state"], bool(each["reason"])) for each in slots_of(bench, host)["modules"]}
    assert told == {1: ("retired", True), 2: ("live", False)}


# ---- inspect ----


def test_inspect(bench: Bench) -> None:
    module = bench.module(4, slots={"a": "1", "b": "2"}, on_load="return 0;")
    done = bench.call("inspect", "--json", module)
    (told,) = done.json
    assert done.code == 0 and told["path"] == str(module) and told["layouts"] == [] and told["warnings"] == []
    manifest = told["manifest"]
    assert (manifest["name"], manifest["version"], manifest["build_id"]) == ("m", 4, build_id(module))
    assert [each["symbol"] for each in manifest["entries"]] == ["a", "b"]
    assert manifest["on_load"] is True and manifest["on_unload"] is False
    text = bench.call("inspect", module)
    assert text.code == 0 and "m v4" in text.out and build_id(module) in text.out and "on_load" in text.out


def test_inspect_runs_nothing_of_the_module(bench: Bench) -> None:
    left = bench.work / "left"
    trap = (
        f'#include <stdio.h>\n__attribute__((constructor)) static void trap(void) {{ fclose(fopen("{left}", "w")); }}'
    )
    module = bench.module(1, extra=trap)
    assert bench.call("inspect", module).code == 0
    assert not left.exists()
    bench.host()
    assert bench.call("load", module).code == 0
    assert left.exists()  # the trap works


def test_inspect_warns(bench: Bench) -> None:
    module = bench.module(1, flags=["-Wl,--build-id=none", "-Wl,-z,nodelete"])
    (told,) = bench.call("inspect", "--json", module).json
    assert set(told["warnings"]) == {"no-build-id", "nodelete"}


def test_inspect_in_words_names_the_cure(bench: Bench) -> None:
    bad = bench.work / "bad.so"
    bad.write_text("no module")
    done = bench.call("inspect", bad)
    assert done.code == 3 and done.out.startswith("E-NOT-ELF: ")
    assert all(f"\n  {part}" in done.out for part in ("found:", "expected:", "fix:"))


# ---- usage ----


@pytest.mark.parametrize(
    "arguments",
    [
        ["load"],
        ["rollback", "a", "b"],
        ["ps", "extra"],
        ["slots", "--host"],
        ["inspect"],
        ["nonsense"],
        ["load", "--x"],
    ],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str], bench: Bench) -> None:
    done = bench.call(*arguments)
    assert done.code == 2 and done.out == "" and "Error: " in done.err and "Traceback" not in done.err


def test_a_reader_that_goes_away_is_no_accident(bench: Bench) -> None:
    bench.host()
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        bench.command("slots"), stdout=write, stderr=subprocess.PIPE, env=bench.environment(), check=False
    )
    os.close(write)
    assert done.stderr == b"" and done.returncode in (0, 1)


NAMES = {
    *("PID", "HOST", "UP", "GENERATION", "SLOTS", "MODULES", "RESIDENT", "MAPPINGS", "CALLS"),
    *("#", "TIME", "EVENT", "MODULE", "VERSION", "ID", "KEPT", "SLOT"),
    *("STATE", "LAYOUT", "ON", "IN", "FLIGHT", "FIRST", "CALL"),
}
"""Words at the head of a table."""


@pytest.mark.parametrize("width", [60, 80, 140])
def test_tables_fit_the_terminal(bench: Bench, width: int) -> None:
    """Numbers and ids are whole, a row is a line, and what has no place is said."""
    host = bench.host("game", "game.draw", "game.move")
    assert bench.call("load", bench.module(1, "painter", slots={"game.draw": "1"})).code == 0
    (entry,) = bench.call("history", "--json").json[0]
    build_id = entry["module"]["build_id"][:8]
    for command, wanted in (
        ("ps", [f"{host.pid}  game"]),
        ("slots", ["game.draw", "v1", f"painter v1 {build_id}"]),
        ("history", ["painter", build_id, "game.draw v0→v1"]),
    ):
        terminal = Terminal([*bench.command(command)], width, 24, bench.environment(COLUMNS=str(width)), bench.work)
        try:
            assert terminal.ended() == 0
            row = next((line for line in terminal.lines if all(text in line for text in wanted)), "")
            assert row, terminal.text
            header = terminal.lines[terminal.lines.index(row) - 1]
            assert set(header.split()) <= NAMES, "a name is cut"
            narrow = width < (80 if command == "ps" else 110)
            assert ("no room for" in terminal.text) == narrow, terminal.text
        finally:
            terminal.close()
