"""The guard as its user sees it: `hotreload watch --guard` and `load --guard` beside a real host."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from integration.harness import Bench

CRASH = "static int *volatile nowhere;\n__attribute__((noinline)) static int crash(void) {\n    return *nowhere;\n}"
LOOP = "static int loop(void) { for (volatile int i = 0;; i++) {} }"


def crasher(bench: Bench, version: int) -> Path:
    return bench.module(version, slots={"a": "crash()"}, extra=CRASH, flags=["-g", "-O1"])


def test_watch_tells_a_crash_and_goes_on(bench: Bench) -> None:
    host = bench.host("game", "a")
    watch = bench.watch("--guard")
    watch.event("attach")
    bench.put(bench.module(1))
    watch.event("swap", version=1)
    host.runs(a=1)
    bench.put(crasher(bench, 2))
    crash = watch.event("crash", version=2, code="E-CRASH")
    assert crash["slots"] == [{"symbol": "a", "from": 2, "to": 3}]
    fault = crash["fault"]
    assert (fault["signal"], fault["function"]) == ("SIGSEGV", "a") and fault["restored"] > 0
    assert fault["at"].startswith("m-2.c:") and "crash" in fault["at"]
    assert f"crashed in a ({fault['at']}); its state was restored" in crash["reason"], crash
    assert f"thread {fault['thread']}" in crash["found"]
    host.runs(a=1)
    bench.put(bench.module(3))
    watch.event("swap", version=3)
    host.runs(a=3)
    host.check_state()  # the call that crashed has left no trace
    assert watch.interrupt() == 130
    watch.check_schema()


def test_a_hang_is_ended(bench: Bench) -> None:
    host = bench.host("game", "a")
    watch = bench.watch("--plain", "--hang-seconds", "0.3")
    watch.says("attach")
    bench.put(bench.module(1, slots={"a": "loop()"}, extra=LOOP))
    line = watch.output.lines[watch.says("CRASH")]
    assert "E-HANG" in line and "rolled back" in line and "a v1→v2" in line
    host.runs(a=0)
    host.check_state()


@pytest.mark.parametrize("wait", ["sleep(100)", "poll(0, 0, -1)", "pause()", "read(pair(), &byte, 1)"])
def test_a_call_that_waits_for_too_long_hangs(bench: Bench, wait: str) -> None:
    """Where the kernel ends the wait early, for the signal that is to end the call, too."""
    waiting = (
        "#include <poll.h>\n#include <unistd.h>\nstatic char byte;\n"
        "static int pair(void) { int both[2]; return pipe(both) == 0 ? both[0] : 0; }\n"
        f"__attribute__((noinline)) static int wait_long(void) {{ return (int){wait} * 0; }}\n"
    )
    host = bench.host("game", "a")
    watch = bench.watch("--hang-seconds", "0.3")
    watch.event("attach")
    bench.put(bench.module(1, slots={"a": "wait_long()"}, extra=waiting, flags=["-g", "-O1"]))
    crash = watch.event("crash", version=1, code="E-HANG")
    assert "wait_long" in crash["fault"]["at"] and crash["fault"]["restored"] > 0, crash
    host.runs(a=0)
    host.check_state()


WORK = """
#include <time.h>
static int work(void) {
    struct timespec now;
    for (clock_t end = clock() + CLOCKS_PER_SEC / 10; clock() < end;) clock_gettime(CLOCK_MONOTONIC, &now);
    return 1;
}
"""


def test_a_host_that_is_stopped_does_not_hang(bench: Bench) -> None:
    """By Ctrl-Z, or in a debugger, in the middle of a call: time goes on, and nobody works."""
    host = bench.host("game", "a")
    watch = bench.watch("--hang-seconds", "1.5")
    watch.event("attach")
    bench.put(bench.module(1, slots={"a": "work()"}, extra=WORK))
    watch.event("swap", version=1)
    for _ in range(2):
        time.sleep(0.3)
        host.process.send_signal(signal.SIGSTOP)
        time.sleep(2.5)
        host.process.send_signal(signal.SIGCONT)
    host.runs(a=1)
    time.sleep(1)
    assert not watch.events("crash"), watch.events("crash")
    host.check_state()


LOCKING = (
    CRASH
    + """
#include <pthread.h>
static pthread_mutex_t work = PTHREAD_MUTEX_INITIALIZER;
extern pthread_mutex_t shared_lock __attribute__((weak));
__attribute__((noinline)) static int locked(pthread_mutex_t *mutex) {
    pthread_mutex_lock(mutex);
    return crash();
}
"""
)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("locked(&work)", "it holds the mutex work of the module for ever"),
        ("locked(&shared_lock)", "it, or its caller, holds the mutex shared_lock of the program"),
    ],
)
def test_a_mutex_that_a_crashed_patch_held_is_named(bench: Bench, body: str, told: str) -> None:
    host = bench.host("game", "a")
    watch = bench.watch("--guard")
    watch.event("attach")
    bench.put(bench.module(1, slots={"a": body}, extra=LOCKING, flags=["-g", "-O1"]))
    crash = watch.event("crash", version=1, code="E-CRASH")
    assert told in crash["reason"], crash
    host.runs(a=0)
    # One that has given its mutex back holds none.
    free = LOCKING.replace("return crash();", "pthread_mutex_unlock(mutex);\n    return crash();")
    bench.put(bench.module(2, slots={"a": "locked(&work)"}, extra=free, flags=["-g", "-O1"]))
    crash = watch.event("crash", version=2, code="E-CRASH")
    assert "mutex work" not in crash["reason"], crash


def test_load_refuses_what_crashes_before_its_swap(bench: Bench) -> None:
    host = bench.host("game", "a")
    module = bench.module(1, on_load="return *nowhere;", extra="static int *volatile nowhere;")
    done = bench.call("load", "--guard", "--json", module)
    assert done.code == 3 and done.json[0]["code"] == "E-CRASH" and "on_load" in done.json[0]["reason"]
    assert bench.call("load", "--guard", "--json", module).json[0]["code"] == "E-QUARANTINED"
    host.runs(a=0)
    assert bench.call("load", "--guard", bench.module(2)).code == 0
    host.runs(a=2)


@pytest.mark.parametrize("flags", [("--guard-seconds", "0.2"), ("--guard-calls", "5")], ids=" ".join)
def test_a_probation_ends(bench: Bench, flags: tuple[str, str]) -> None:
    host = bench.host("game", "a", "b")
    assert (
        bench.call("load", "--guard", "--guard-seconds", "3600", bench.module(1, slots={"a": "1", "b": "1"})).code == 0
    )
    assert {slot["state"] for slot in bench.slots(host)} == {"probation"}
    assert bench.call("load", *flags, bench.module(2)).code == 0
    host.runs(a=2)
    while next(slot for slot in bench.slots(host) if slot["symbol"] == "a")["state"] != "live":
        host.now()
    host.check_state()


def test_without_the_guard_the_host_dies(bench: Bench) -> None:
    """The counter-proof."""
    host = bench.host("game", "a")
    bench.call("load", crasher(bench, 1))
    assert host.wait() == -11
