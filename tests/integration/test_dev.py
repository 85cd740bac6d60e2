"""`hotreload dev` on real projects: what it builds, what it restarts, what it reads again, how it tells an error."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pyte
import pytest
from conftest import RequireTool
from integration.harness import PATIENCE_SECONDS, Bench, Watch, check_answer


@pytest.fixture
def project(bench: Bench, require_tool: RequireTool) -> Path:
    """A new one in C."""
    require_tool("make")
    made = bench.call("new", "p", "--lang", "c")
    assert made.code == 0, made.err
    return bench.work / "p"


def edit(path: Path, old: str, new: str) -> None:
    """Saves as editors do."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, old
    draft = path.with_name("draft")
    draft.write_text(text.replace(old, new), encoding="utf-8")
    draft.replace(path)


def running(dev: Watch, count: int = 1) -> int:
    """The pid of the n-th host that was attached."""
    pid: int = dev.event("attach", times=count)["host"]["pid"]
    return pid


def test_an_edit_tells_its_phases(bench: Bench, project: Path) -> None:
    dev = bench.dev(project, "--json")
    dev.event("swap")
    edit(project / "patch.c", "STEP 10", "STEP 20")
    us = dev.event("swap", times=2)["us"]
    assert {"notice", "build", "deliver", "loop", "total", "commit"} <= set(us)
    assert us["loop"] >= us["build"] + us["total"]
    assert len(dev.events("build", reason="started: make")) == 2, "one save, one build"


def test_a_new_host_runs_the_newest_module(bench: Bench, project: Path) -> None:
    dev = bench.dev(project, "--plain")
    dev.says("step=+10 ")
    edit(project / "patch.c", "STEP 10", "STEP 20")
    dev.says("step=+20 ")
    edit(project / "host.c", '"count=', '"total=')
    at = dev.says("its own code has changed")
    at = dev.says(" attach ", at)
    dev.says("total=", at)
    assert "step=+20" in dev.output.lines[dev.says("step=+20", at)]
    assert dev.interrupt() == 130


def test_state_and_module_change_together(bench: Bench, project: Path) -> None:
    """A module of a new layout never meets the host of the old one: that is ended before."""
    dev = bench.dev(project, "--json")
    first = running(dev)
    dev.event("swap")
    edit(project / "state.h", "F(state, count, int64_t)", "F(state, before, int64_t) F(state, count, int64_t)")
    second = running(dev, 2)
    dev.event("swap", pid=second)
    assert first != second
    assert [each["host"]["pid"] for each in dev.events("swap")] == [first, second]


def test_a_host_built_by_somebody_else(bench: Bench, project: Path) -> None:
    (project / "hotreload.toml").write_text('watch = ["build"]\nhost = "build/host"\n')
    make = bench.environment(HOTRELOAD=" ".join(bench.command()))
    assert os.spawnvpe(os.P_WAIT, "make", ["make", "-s", "-C", str(project)], make) == 0
    dev = bench.dev(project, "--plain")
    dev.says("count=")
    edit(project / "host.c", '"count=', '"total=')
    assert os.spawnvpe(os.P_WAIT, "make", ["make", "-s", "-C", str(project)], make) == 0
    dev.says("total=", dev.says("its own code has changed"))


def test_the_same_program_again_is_no_new_host(bench: Bench, project: Path) -> None:
    dev = bench.dev(project, "--json")
    dev.event("swap")
    edit(project / "host.c", "/* The host:", "/* Our host:")
    edit(project / "patch.c", "STEP 10", "STEP 20")
    dev.event("swap", times=2)
    assert len(dev.events("attach")) == 1


@pytest.mark.parametrize("how", ["crash", "exit"])
def test_a_host_that_ended_comes_back_with_the_next_build(bench: Bench, project: Path, how: str) -> None:
    dev = bench.dev(project, "--json")
    pid = running(dev)
    dev.event("swap")
    os.kill(pid, signal.SIGSEGV if how == "crash" else signal.SIGTERM)
    dev.event("detach", pid=pid)
    edit(project / "patch.c", "STEP 10", "STEP 20")
    second = running(dev, 2)
    dev.event("swap", pid=second)
    assert dev.interrupt() == 130


def test_no_restart(bench: Bench, project: Path) -> None:
    dev = bench.dev(project, "--json", "--no-restart")
    dev.event("swap")
    edit(project / "host.c", '"count=', '"total=')
    edit(project / "patch.c", "STEP 10", "STEP 20")
    dev.event("swap", times=2)
    assert len(dev.events("attach")) == 1


def test_a_project_that_does_not_build_yet(bench: Bench, project: Path) -> None:
    edit(project / "host.c", "int main(void) {", "int main(void) { oops;")
    dev = bench.dev(project, "--plain")
    dev.says("failed with exit code 2")
    edit(project / "host.c", "int main(void) { oops;", "int main(void) {")
    dev.says("step=+10 ")
    assert not [line for line in dev.output.lines if "cannot be started" in line], "its errors have said enough"


def test_compile_errors_are_told_with_their_places(bench: Bench, project: Path) -> None:
    dev = bench.dev(project, "--json")
    dev.event("swap")
    edit(project / "patch.c", "#define STEP 10", "#define STEP 1x")
    failed = dev.event("build", code="E-BUILD")
    assert failed["reason"].startswith("failed with exit code 2: patch.c:6:14: ")
    first = failed["problems"][0]
    assert (first["severity"], first["path"], first["line"], first["column"]) == ("error", "patch.c", 6, 14)
    edit(project / "patch.c", "#define STEP 1x", "#define STEP 20\nint unused(void) { int a; return 0; }")
    warned = dev.event("build", times=6)
    assert warned["reason"].endswith(", 1 warning") and warned["problems"][0]["message"].startswith("unused variable")


BUILDS = {
    "queue": "echo began >> log; while test -e slow; do sleep 0.02; done; make",
    "restart": "echo began >> log; if test -e slow; then rm slow; sleep 600; fi; make",
    "ignore": "echo began >> log; while test -e slow; do sleep 0.02; done; make",
}


@pytest.mark.parametrize("busy", BUILDS)
def test_an_edit_during_a_build(bench: Bench, project: Path, busy: str) -> None:
    settings = f'build = "{BUILDS[busy]}"\nwatch = ["build"]\nhost = "build/host"\nbusy = "{busy}"\n'
    (project / "hotreload.toml").write_text(settings)
    dev = bench.dev(project, "--json")
    dev.event("swap")
    (project / "slow").touch()
    edit(project / "patch.c", "STEP 10", "STEP 20")
    wait_until(lambda: builds(project) == 2 and (busy != "restart" or not (project / "slow").exists()))
    edit(project / "patch.c", "STEP 20", "STEP 30")
    if busy == "restart":
        dev.output.find(lambda line: "stopped: sources have changed again" in line)
    else:
        time.sleep(2.0)  # as long as noticing the edit may take on a busy machine
        (project / "slow").unlink()
    dev.event("swap", times=2)
    if busy == "ignore":  # what the next edit builds shows that there was no build in between
        edit(project / "patch.c", "STEP 30", "STEP 40")
        dev.event("swap", times=3)
    wait_until(lambda: builds(project) >= 3)
    assert builds(project) == 3
    assert dev.events("reject") == []


def builds(project: Path) -> int:
    return (project / "log").read_text().count("began")


def wait_until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_the_configuration_is_read_again(bench: Bench, project: Path) -> None:
    dev = bench.dev(project, "--json")
    first = running(dev)
    dev.event("swap")
    settings = project / "hotreload.toml"
    edit(settings, "build =", "biuld =")
    refused = dev.event("reject", code="E-CONFIG")
    assert refused["reason"].endswith("hotreload.toml:2: unknown key 'biuld'") and refused["fix"] == "write build"
    edit(settings, 'biuld = "make"', 'build = "make CFLAGS=-O2"')
    dev.event("build", reason="started: make CFLAGS=-O2")
    edit(project / "patch.c", "STEP 10", "STEP 20")
    dev.event("swap", times=2, pid=first)
    edit(settings, 'host = "build/host"', 'host = "build/host more"')
    second = running(dev, 2)
    dev.event("swap", pid=second)
    edit(settings, 'watch = ["build"]', 'watch = ["out"]')
    edit(settings, "make CFLAGS=-O2", "make && mkdir -p out && cp build/p.so out/q.so")
    dev.event("candidate", path=str(project / "out" / "q.so"))


def test_hooks_of_the_configuration_are_live(bench: Bench, project: Path) -> None:
    settings, log = project / "hotreload.toml", project / "hooks.log"
    with settings.open("a", encoding="utf-8") as file:
        file.write("on_swap = 'echo first $HR_MODULE >> hooks.log'\n")
    dev = bench.dev(project, "--json", "--on-reject", "echo refused $HR_CODE >> hooks.log")
    dev.event("swap")
    wait_for_lines(log, 1)
    edit(settings, "echo first", "echo second")
    dev.event("build", times=2)
    edit(project / "patch.c", "STEP 10", "STEP 20")
    dev.event("swap", times=2)
    assert wait_for_lines(log, 2) == ["first p", "second p"]


def wait_for_lines(path: Path, count: int) -> list[str]:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if len(found) >= count:
            return found
        assert time.monotonic() < deadline, f"{path} has not {count} lines"
        time.sleep(0.05)


def test_nothing_to_do_is_told(bench: Bench) -> None:
    told = bench.call("dev", "--json")
    assert told.code == 2
    error = json.loads(told.err)
    assert error["code"] == "E-CONFIG" and "hotreload init" in error["fix"]


def test_the_command_line_alone_is_enough(bench: Bench, project: Path) -> None:
    (project / "hotreload.toml").unlink()
    dev = bench.dev(project, "--json", "--build", "make", "--watch", "build", "--", "build/host", "more")
    dev.event("swap")
    assert dev.interrupt() == 130


def test_from_a_directory_below(bench: Bench, project: Path) -> None:
    below = project / "deep" / "er"
    below.mkdir(parents=True)
    dev = bench.dev(below, "--json", "--watch", str(project / "build"))
    dev.event("swap")


def test_prepare_runs_once_before_the_first_build(bench: Bench, project: Path) -> None:
    (project / "hotreload.toml").write_text(
        'prepare = "echo prepared >> log"\nbuild = "make"\nwatch = ["build"]\nhost = "build/host"\n'
    )
    dev = bench.dev(project, "--json")
    dev.event("swap")
    edit(project / "patch.c", "STEP 10", "STEP 20")
    dev.event("swap", times=2)
    assert (project / "log").read_text() == "prepared\n"


def test_e_opens_the_error_and_what_is_saved_there_is_built(bench: Bench, project: Path) -> None:
    """The dashboard on a real terminal: it makes room for the editor, and comes back."""
    editor = bench.work / "editor"
    editor.write_text('#!/bin/sh\necho "EDITOR HAS $*"\nsed -i "s/STEP 1x/STEP 30/" "$2"\nread line\n')
    editor.chmod(0o755)
    environment = bench.environment(
        EDITOR=str(editor), TERM="xterm-256color", XDG_CONFIG_HOME=str(bench.home), PYTHONIOENCODING="utf-8"
    )
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    screen = pyte.Screen(100, 30)
    stream = pyte.ByteStream(screen)
    dev = subprocess.Popen(
        bench.command("dev"), cwd=project, env=environment, stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )  # fmt: skip

    def seen(text: str) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while text not in (shown := "\n".join(screen.display)):
            assert time.monotonic() < deadline, f"not seen: {text}\n{shown}"
            if select.select([master], [], [], 0.1)[0]:
                stream.feed(os.read(master, 65536))

    try:
        seen("step=+10")
        edit(project / "patch.c", "STEP 10", "STEP 1x")
        seen("build failed: 1 error")
        seen("e edit patch.c:6")
        os.write(master, b"e")
        seen("EDITOR HAS +6 patch.c")
        os.write(master, b"\n")
        seen("step=+30")
        os.write(master, b"q")
        deadline = time.monotonic() + PATIENCE_SECONDS
        while dev.poll() is None:
            assert time.monotonic() < deadline
            if select.select([master], [], [], 0.1)[0]:
                os.read(master, 65536)
        assert dev.returncode == 0
    finally:
        dev.kill()
        dev.wait()
        os.close(master)
        os.close(slave)


def test_suggest_measures_what_is_installed(bench: Bench) -> None:
    project = bench.work / "quick"
    project.mkdir()
    (project / "Makefile").write_text("a.so: a.c\n\tcc $(CFLAGS) $(LDFLAGS) -shared -fPIC -o $@ a.c\n")
    (project / "a.c").write_text("int a;\n")
    (project / "hotreload.toml").write_text('build = "make"\nwatch = ["."]\n')
    done = bench.call("dev", "--suggest", "--json", cwd=project, XDG_CONFIG_HOME=str(bench.home))
    assert done.code == 0, done.err
    (told,) = done.json
    check_answer("suggest", told)
    assert told["source"] == "a.c" and told["warm"] > 0
    gains = {gain["name"]: gain for gain in told["gains"]}
    assert {"warm build directory", "mold", "lld", "split debug info", "tcc for the module"} <= set(gains)
    assert all((gain["seconds"] is None) == (gain["ratio"] == 0) for gain in gains.values())
    assert gains["split debug info"]["advice"].startswith("env.CFLAGS = ")
    assert sorted(path.name for path in project.iterdir()) == ["Makefile", "a.c", "hotreload.toml"]


def test_variables_that_are_nearly_keys_are_refused_and_others_told(bench: Bench) -> None:
    done = bench.call("dev", "--plain", "--watch", "out", HOTRELOAD_BIULD="make")
    assert done.code == 2 and not done.out
    assert "$HOTRELOAD_BIULD: unknown key 'biuld'" in done.err and "write $HOTRELOAD_BUILD, or unset it" in done.err
    done = bench.call("dev", "--suggest", "--watch", "out", HOTRELOAD_SERVER_ADDRESS="x")
    assert "$HOTRELOAD_SERVER_ADDRESS means nothing to hotreload and is ignored" in done.err


@pytest.mark.parametrize(
    ("words", "nearest"),
    [
        (("new", "x", "--lang", "zgi"), "zig"),
        (("new", "x", "--lang", "c", "--kind", "modul"), "module"),
        (("dev", "--busy", "que"), "queue"),
        (("completions", "fsh"), "fish"),
        (("ps", "--color", "allways"), "always"),
    ],
)
def test_a_wrong_choice_is_told_with_the_nearest(words: tuple[str, ...], nearest: str, bench: Bench) -> None:
    done = bench.call(*words)
    assert done.code == 2 and f"Did you mean '{nearest}'?" in done.err and not done.out
    assert "Did you mean" not in bench.call(*words[:-1], "qqqqqqq").err
