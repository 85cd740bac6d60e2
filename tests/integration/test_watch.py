"""``hotreload watch`` from outside: real hosts, real builds, and every line that it prints."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from integration.harness import Bench, HostProgram, Json, Watch

VETO = 7
ALWAYS = {"event", "time"}
KEYS: dict[str, tuple[set[str], set[str]]] = {
    # event: keys that it always has, keys that it may have
    "attach": ({"host"}, set()),
    "detach": ({"host", "reason"}, set()),
    "candidate": ({"module"}, {"warnings"}),
    "swap": ({"host", "module", "slots", "us"}, {"warnings"}),
    "same": ({"host", "module", "us"}, set()),
    "rollback": ({"host", "module", "slots", "us"}, set()),
    "retire": ({"host", "module"}, {"us"}),
    "called": ({"host", "module", "slots"}, {"us"}),
    "reject": ({"module", "code", "reason", "fix"}, {"host", "us", "found", "expected"}),
    "build": ({"reason"}, {"us", "code", "fix", "problems"}),
}
STEPS = {"stage", "preflight", "layout", "same", "open", "check", "on_load", "commit", "trial", "total"}
PHASES = {"notice", "build", "deliver", "loop"}
"""Of the first swap after a build."""
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


def check_json(watch: Watch) -> list[Json]:
    """Asserts that a ``--json`` watch has printed what DESIGN.md section 9 names, and nothing else."""
    events = [json.loads(line) for line in watch.output.lines]
    for event in events:
        must, may = KEYS[event["event"]]
        assert must | ALWAYS <= event.keys() <= must | may | ALWAYS, event
        assert RFC_3339.fullmatch(event["time"]), event
        assert event.get("host", {"pid": 1, "name": "x"}).keys() == {"pid", "name"}
        assert event.get("module", dict.fromkeys(("name", "version", "build_id", "path"))).keys() == {
            "name", "version", "build_id", "path",
        }  # fmt: skip
        assert all(each.keys() == {"symbol", "from", "to"} for each in event.get("slots", ()))
        assert event.get("us", {}).keys() - PHASES in (STEPS, {"total"}, set())
    return events


def finish(watch: Watch) -> None:
    """Ctrl-C: the exit code is 130, and nothing was said on standard error in its whole life."""
    assert watch.interrupt() == 130
    assert watch.errors.end() == []
    watch.output.end()


# ---- one swap a build ----


def builds(bench: Bench, output: Path) -> Iterable[tuple[int, list[str | Path]]]:
    """Versions, and the command that brings each to the output."""
    for version in (1, 4):
        copied, moved = bench.module(version), bench.module(version + 1)
        yield version, ["cp", copied, output]
        yield version + 1, ["mv", moved, output]
        source = bench.source(version + 2)
        yield version + 2, bench.compile_command(source, output)


def test_one_swap_a_build_as_json(bench: Bench) -> None:
    host = bench.host()
    watch = bench.watch()
    assert watch.event("attach") == {**watch.events()[0], "host": {"pid": host.pid, "name": "game"}}
    output = bench.out / "m.so"
    for version, command in builds(bench, output):
        subprocess.run(command, check=True, umask=0o022)
        swap = watch.event("swap", version)
        assert swap["slots"] == [{"symbol": "a", "from": version - 1, "to": version}]
        assert swap["module"]["version"] == version and swap["module"]["path"] == str(output)
        host.runs(a=version)
    subprocess.run(["touch", output], check=True)  # no new content: no build
    host.check_state()
    assert host.history("a") == [0, 1, 2, 3, 4, 5, 6]
    finish(watch)
    check_json(watch)
    assert len(watch.events("swap")) == len(watch.events("candidate")) == 6
    assert watch.events("reject") == []


def test_one_swap_a_build_as_plain_lines(bench: Bench) -> None:
    host = bench.host()
    watch = bench.watch("--plain")
    watch.says(f"attach    game pid {host.pid}")
    for version, command in builds(bench, bench.out / "m.so"):
        subprocess.run(command, check=True, umask=0o022)
        watch.says(f"a v{version - 1}→v{version}")
        host.runs(a=version)
    host.check_state()
    finish(watch)
    swaps = [line for line in watch.output.lines if " swap " in line]
    assert len(swaps) == 6
    assert all(re.match(r"\d\d:\d\d:\d\d \S", line) for line in watch.output.lines)
    assert not any("\x1b" in line for line in watch.output.lines)


def test_poll(bench: Bench) -> None:
    host = bench.host()
    watch = bench.watch("--poll")
    watch.event("attach")
    for version in (1, 2):
        bench.put(bench.module(version))
        watch.event("swap", version)
        host.runs(a=version)
    finish(watch)


def test_the_same_content_is_told_and_not_swapped(bench: Bench) -> None:
    host = bench.host()
    bench.put(bench.module(1))
    assert bench.call("load", bench.out / "m.so").code == 0
    watch = bench.watch()
    assert watch.event("same")["host"]["pid"] == host.pid
    bench.put(bench.module(2))
    watch.event("swap")
    finish(watch)
    check_json(watch)
    host.runs(a=2)
    assert host.history("a") == [0, 1, 2]


# ---- hosts that come and go ----


def test_a_late_host_is_brought_to_what_is_on_disk(bench: Bench) -> None:
    watch = bench.watch()
    bench.put(bench.module(1))
    watch.event("candidate", version=1)
    bench.put(bench.module(2))
    watch.event("candidate", version=2)
    host = bench.host()
    assert watch.event("swap")["module"]["version"] == 2
    host.runs(a=2)
    host.check_state()
    assert host.history("a") in ([0, 2], [2])
    finish(watch)
    assert len(watch.events("swap")) == 1


def test_what_was_built_before_reaches_the_hosts_unless_it_is_left_alone(bench: Bench) -> None:
    bench.put(bench.module(1))
    host = bench.host()
    watch = bench.watch("--no-existing")
    watch.event("attach")
    bench.put(bench.module(2), "new.so")  # both are seen by now, and only this one is news
    watch.event("swap", version=2)
    finish(watch)
    assert len(watch.events("candidate")) == 1
    assert host.history("a")[:1] == [0] and 1 not in host.history("a")
    watch = bench.watch()
    assert {watch.event("swap", version=1)["host"]["pid"], watch.event("attach")["host"]["pid"]} == {host.pid}
    finish(watch)


def test_a_restarted_host_gets_the_newest_accepted_module_when_the_file_is_bad(bench: Bench) -> None:
    watch = bench.watch()
    first = bench.host()
    for version in (1, 2):
        bench.put(bench.module(version))
        first.runs(a=version)
    (bench.out / "m.so").write_bytes(b"\x7fELF, but not for long")
    watch.event("reject")
    bench.put(bench.module(3, extra="extern int nobody(void);", slots={"a": "nobody()"}))
    watch.event("reject", code="E-SYMBOLS")
    first.kill()
    assert watch.event("detach", pid=first.pid)["reason"]
    second = bench.host()
    second.runs(a=2)
    second.check_state()
    second.kill()
    (bench.out / "m.so").unlink()  # a deletion takes nothing back
    third = bench.host()
    third.runs(a=2)
    bench.put(bench.module(4))
    third.runs(a=4)
    third.check_state()
    finish(watch)
    check_json(watch)
    assert [event["module"]["version"] for event in watch.events("swap")] == [1, 2, 2, 2, 4]


def test_chosen_hosts(bench: Bench) -> None:
    one, other, third = bench.host("one"), bench.host("other"), bench.host("third")
    watch = bench.watch("--host", "one", "--host", str(third.pid))
    watch.event("attach", pid=one.pid)
    watch.event("attach", pid=third.pid)
    bench.put(bench.module(1))
    one.runs(a=1)
    third.runs(a=1)
    again = bench.host("one")  # a second of that name belongs to it
    again.runs(a=1)
    finish(watch)
    assert other.now().values == {"a": 0}
    assert {event["host"]["pid"] for event in watch.events("attach")} == {one.pid, third.pid, again.pid}


def test_a_module_goes_to_the_hosts_that_declare_one_of_its_slots(bench: Bench) -> None:
    ours, theirs = bench.host("ours", "a", "b"), bench.host("theirs", "c")
    watch = bench.watch()
    watch.event("attach", pid=theirs.pid)
    bench.put(bench.module(1, slots={"b": "1"}))
    ours.runs(a=0, b=1)
    watch.event("swap")
    finish(watch)
    assert [event["host"]["pid"] for event in watch.events("swap")] == [ours.pid]
    assert theirs.now().values == {"c": 0}


# ---- transactions over hosts and directories ----


def unchanged(host: HostProgram, **values: int) -> None:
    """Asserts that a host is whole and runs these versions now."""
    assert host.check_state().values == values


def test_one_host_that_refuses_keeps_the_others_as_they_are(bench: Bench) -> None:
    willing, refusing = bench.host("willing"), bench.host("refusing", VETO=str(VETO))
    watch = bench.watch()
    watch.event("attach", pid=willing.pid)
    watch.event("attach", pid=refusing.pid)
    bench.put(bench.module(1))
    willing.runs(a=1)
    refusing.runs(a=1)
    bench.put(bench.module(2, on_load="return state->veto;"))
    veto = watch.event("reject", code="E-ON-LOAD")
    assert veto["host"]["pid"] == refusing.pid and str(VETO) in veto["reason"] and veto["fix"]
    aborted = watch.event("reject", code="E-ABORTED")
    assert aborted["host"]["pid"] == willing.pid and aborted["fix"]
    unchanged(willing, a=1)
    unchanged(refusing, a=1)
    bench.put(bench.module(3))
    willing.runs(a=3)
    refusing.runs(a=3)
    finish(watch)
    check_json(watch)
    assert willing.history("a") == refusing.history("a") == [0, 1, 3]


def test_a_quarantined_content_in_one_host_keeps_the_others_as_they_are(bench: Bench) -> None:
    calm, burnt = bench.host("calm"), bench.host("burnt")
    watch = bench.watch()
    for version in (1, 2):
        bench.put(bench.module(version))
        calm.runs(a=version)
        burnt.runs(a=version)
    assert bench.call("rollback", "--host", "burnt").code == 0
    burnt.runs(a=1)
    watch.event("rollback", pid=burnt.pid)  # done by somebody else, and told all the same
    bench.put(bench.module(3))
    calm.runs(a=3)
    burnt.runs(a=3)
    bench.put(bench.module(2))
    assert watch.event("reject", code="E-QUARANTINED")["host"]["pid"] == burnt.pid
    assert watch.event("reject", code="E-ABORTED")["host"]["pid"] == calm.pid
    unchanged(calm, a=3)
    unchanged(burnt, a=3)
    bench.put(bench.module(4))
    calm.runs(a=4)
    burnt.runs(a=4)
    finish(watch)
    check_json(watch)


def copy_script(bench: Bench, *pairs: tuple[str, Path]) -> Path:
    """A build that copies modules to outputs, as slowly as linkers work; a file ``fail`` beside it makes it fail."""
    script = bench.work / "build.sh"
    lines = [
        f"cp {shlex.quote(str(bench.work / name))} {shlex.quote(str(output))}; sleep 0.05" for name, output in pairs
    ]
    script.write_text(
        "set -e\necho building\nif [ -e fail ]; then echo 'x.c:1: error: no' >&2; exit 9; fi\n" + "\n".join(lines)
    )
    return script


class TwoOutputs:
    """Two modules in two directories, made by one build from one source tree, and two hosts with both slots."""

    def __init__(self, bench: Bench, **second: str) -> None:
        self.bench = bench
        self.tree = bench.work / "tree"
        self.outs = [bench.work / "out" / each for each in ("one", "two")]
        for each in (self.tree, *self.outs):
            each.mkdir()
        self.hosts = [bench.host("first", "a", "b"), bench.host("second", "a", "b", **second)]
        script = copy_script(bench, ("a.so", self.outs[0] / "a.so"), ("b.so", self.outs[1] / "b.so"))
        self.edit(1)
        self.watch = bench.watch("--build", f"sh {script}", "--source", self.tree, paths=self.outs)
        for host in self.hosts:
            self.watch.event("attach", pid=host.pid)
        self.run(1, 1)  # the first build comes by itself

    def edit(self, version: int, *, on_load: str = "", bad: bool = False) -> None:
        """An edit of the sources that gives both modules this version; ``bad`` makes b.so no module at all."""
        for name in ("a", "b"):
            hook = on_load if name == "b" else ""
            module = self.bench.module(version, name, slots={name: str(version)}, on_load=hook)
            self.bench.put(module, f"{name}.so", self.bench.work)
        if bad:
            (self.bench.work / "b.so").write_bytes(b"no module")
        (self.tree / "x.c").write_text(f"// version {version}\n")

    def run(self, a: int, b: int) -> None:
        for host in self.hosts:
            host.runs(a=a, b=b)

    def end(self) -> None:
        finish(self.watch)
        check_json(self.watch)
        for host in self.hosts:
            host.check_state()
            # A tick is one frame: half a transaction, at any moment, would show as two versions in one line.
            mixed = [each for each in host.ticks() if each.values["a"] != each.values["b"]]
            assert not mixed, "\n".join(map(str, [*mixed, *self.watch.output.lines]))


def test_outputs_of_one_build_in_two_directories_swap_in_one_step_in_all_hosts(bench: Bench) -> None:
    two = TwoOutputs(bench)
    for version in (2, 3):
        two.edit(version)
        two.run(version, version)
    two.end()
    assert len(two.watch.events("swap")) == 3 * 2 * 2
    for host in two.hosts:
        assert [each["version"] for each in bench.slots(host)] == [3, 3]
    started = [event for event in two.watch.events("build") if "started" in event["reason"]]
    assert len(started) == 3 and len(two.watch.events("build")) == 6


def test_one_module_of_a_build_that_one_host_refuses_keeps_all_of_it_from_all_hosts(bench: Bench) -> None:
    two = TwoOutputs(bench, VETO=str(VETO))
    two.edit(2, on_load="return state->veto;")
    two.watch.event("reject", code="E-ON-LOAD", module="b")
    two.watch.event("reject", code="E-ABORTED", pid=two.hosts[0].pid, module="a")
    two.watch.event("reject", code="E-ABORTED", pid=two.hosts[0].pid, module="b")
    two.watch.event("reject", code="E-ABORTED", pid=two.hosts[1].pid, module="a")
    for host in two.hosts:
        unchanged(host, a=1, b=1)
    two.edit(3)
    two.run(3, 3)
    two.end()


def test_one_bad_file_of_a_build_keeps_the_others_from_all_hosts(bench: Bench) -> None:
    two = TwoOutputs(bench)
    two.edit(2, bad=True)
    assert two.watch.event("reject", code="E-NOT-ELF")["fix"]
    for host in two.hosts:
        unchanged(host, a=1, b=1)
    two.edit(3)
    two.run(3, 3)
    two.end()


def test_a_copy_that_the_host_cannot_make_is_told_and_made_when_it_can(bench: Bench) -> None:
    """As on a full disk: the file is good, and so is its next build of the same content."""
    host, watch = bench.host(), bench.watch()
    bench.put(bench.module(1))
    host.runs(a=1)
    _, most = resource.prlimit(host.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(host.pid, resource.RLIMIT_FSIZE, (4096, most))
    second = bench.module(2)
    bench.put(second)
    refused = watch.event("reject", code="E-IO", pid=host.pid)
    assert "larger than the files that the host may write" in refused["reason"] and refused["fix"]
    unchanged(host, a=1)
    copies = [path for path in (bench.state / "hotreload" / str(host.pid)).glob("*.so") if path.stat().st_size]
    assert len(copies) == 1  # nothing half copied is left
    resource.prlimit(host.pid, resource.RLIMIT_FSIZE, (most, most))
    bench.put(second)
    host.runs(a=2)
    host.check_state()
    finish(watch)


# ---- builds ----


def test_a_failed_build_leaves_everything_running(bench: Bench) -> None:
    two = TwoOutputs(bench)
    (bench.work / "fail").touch()
    two.edit(2)
    failed = two.watch.event("build", code="E-BUILD")
    assert "exit code 9" in failed["reason"] and failed["fix"]
    (problem,) = failed["problems"]
    assert (problem["path"], problem["line"], problem["message"]) == ("x.c", 1, "no")
    for host in two.hosts:
        unchanged(host, a=1, b=1)
    (bench.work / "fail").unlink()
    two.edit(3)
    two.run(3, 3)
    two.end()


def test_an_edit_a_build_and_the_swap(bench: Bench) -> None:
    host = bench.host()
    source = bench.source(1)
    build = shlex.join(map(str, bench.compile_command(source, bench.out / "m.so")))
    watch = bench.watch("--plain", "--build", f"umask 022; {build}", "--source", source.parent)
    watch.says(f"attach    game pid {host.pid}")
    text = source.read_text()
    source.write_text(text.replace("return 1", "return 11"))
    host.runs(a=11)
    source.write_text(text.replace("return 1", "return unknown"))
    failed = watch.says("E-BUILD")
    watch.says("unknown", failed)  # what the compiler said is shown
    unchanged(host, a=11)
    source.write_text(text.replace("return 1", "return 12"))
    host.runs(a=12)
    host.check_state()
    finish(watch)
    assert host.history("a") == [0, 11, 12]


# ---- a host that watch starts ----


def test_it_starts_a_host_shows_and_logs_its_output_and_ends_it(bench: Bench) -> None:
    stranger = bench.host("stranger")
    bench.put(bench.module(1))
    watch = bench.watch("--plain", "--", str(bench.host_program), "ours", "a", "--", "b")
    ready = watch.output.lines[watch.says("host | ready ")]
    pid = int(ready.rpartition(" ")[2])
    watch.says(f"attach    ours pid {pid}")
    watch.says(" a=1 --=0 b=0")  # its own -- is not ours
    log = Path(re.search(r"\(output in (.*)\)", watch.output.lines[watch.says("output in ")])[1])  # type: ignore[index]
    assert f"ready {pid}" in log.read_text().splitlines()
    assert os.getsid(pid) == pid
    finish(watch)
    assert not runs(pid)
    assert stranger.now().values == {"a": 0}  # who starts a host means that one


def runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_it_goes_with_the_host_that_it_started(bench: Bench) -> None:
    watch = bench.watch("--plain", "--", str(bench.host_program), "brief", "a", TICKS="100", EXIT="3")
    assert watch.wait() == 4
    lines = watch.output.end()
    assert any("host | ticks=" in line for line in lines)
    assert any("exited with code 3" in line for line in lines)
    assert watch.errors.end() == []


def test_it_goes_quietly_with_a_host_that_ended_well(bench: Bench) -> None:
    watch = bench.watch("--", str(bench.host_program), "brief", "a", TICKS="300")
    assert watch.wait() == 0
    watch.output.end()
    assert [event["event"] for event in check_json(watch)] == ["attach", "detach"]


def test_a_host_that_dies_of_a_signal_is_told(bench: Bench) -> None:
    watch = bench.watch("--plain", "--", str(bench.host_program), "ours", "a")
    pid = int(watch.output.lines[watch.says("host | ready ")].rpartition(" ")[2])
    watch.says("attach ")
    os.kill(pid, signal.SIGKILL)
    assert watch.wait() == 4
    assert any("ended by signal 9" in line for line in watch.output.end())


def test_a_host_that_cannot_be_started(bench: Bench) -> None:
    done = bench.call("watch", "--json", bench.out, "--", "./nothing-here")
    assert done.code == 4 and done.out == ""
    told = json.loads(done.err)
    assert told["code"] == "E-NO-HOST" and "nothing-here" in told["reason"] and told["fix"]


def test_a_host_that_does_not_want_to_end_is_killed(bench: Bench) -> None:
    watch = bench.watch("--plain", "--", str(bench.host_program), "ours", "a", DEAF="1")
    pid = int(watch.output.lines[watch.says("host | ready ")].rpartition(" ")[2])
    watch.says("attach ")
    finish(watch)
    assert not runs(pid)


@pytest.mark.parametrize("again", [signal.SIGHUP, signal.SIGINT])
def test_signals_while_it_ends_leave_no_host(bench: Bench, again: signal.Signals) -> None:
    """A closed terminal says so twice; the host takes its two seconds."""
    watch = bench.watch("--plain", "--", str(bench.host_program), "ours", "a", DEAF="1")
    pid = int(watch.output.lines[watch.says("host | ready ")].rpartition(" ")[2])
    watch.says("attach ")
    watch.process.send_signal(signal.SIGINT)
    for _ in range(5):
        time.sleep(0.1)
        watch.process.send_signal(again)
    assert watch.wait() == 130 and not runs(pid)


def test_build_and_host_in_one(bench: Bench) -> None:
    source = bench.source(1)
    build = "umask 022; " + shlex.join(map(str, bench.compile_command(source, bench.out / "m.so")))
    options = ["--build", build, "--source", str(source.parent)]
    watch = bench.watch("--plain", *options, "--", str(bench.host_program), "ours", "a")
    watch.says(" a=1")
    source.write_text(source.read_text().replace("return 1", "return 2"))
    watch.says(" a=2")
    finish(watch)


# ---- ends, pipes and usage ----


@pytest.mark.parametrize("kind", ["--json", "--plain"])
def test_a_closed_pipe_ends_it_quietly(kind: str, bench: Bench) -> None:
    host = bench.host()
    read, write = os.pipe()
    command = bench.command("watch", kind, bench.out)
    with subprocess.Popen(
        command, stdout=write, stderr=subprocess.PIPE, text=True, env=bench.environment(), cwd=bench.work
    ) as watch:
        os.close(write)
        with os.fdopen(read) as lines:
            assert lines.readline()  # it has attached
        bench.put(bench.module(1))
        host.runs(a=1)
        assert watch.stderr is not None
        assert watch.stderr.read() == ""
        assert watch.wait(60) in (0, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_it_in_order(number: signal.Signals, bench: Bench) -> None:
    host = bench.host()
    watch = bench.watch()
    watch.event("attach")
    watch.process.send_signal(number)
    assert watch.wait() == 130
    assert watch.errors.end() == []
    assert bench.leftovers() == [f"{host.pid}.sock"]
    host.check_state()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["out", "--json", "--plain"],
        ["out", "--"],
        ["out", "--color", "perhaps"],
        ["out", "--build"],
        ["out", "--build", "true", "--source", "nowhere"],
        ["out", "--unknown"],
    ],
    ids=" ".join,
)
def test_usage_errors(arguments: list[str], bench: Bench) -> None:
    done = bench.call("watch", *arguments)
    assert done.code == 2 and done.out == ""
    if "--json" in arguments:
        assert json.loads(done.err)["code"] == "E-USAGE"
    else:
        assert done.err.splitlines()[-1].startswith("Error: ")
