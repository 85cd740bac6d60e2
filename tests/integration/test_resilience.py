"""Watchers and hosts that are killed at any moment, again and again, and users who want what is not theirs.

H15 and H16 of DESIGN.md section 6, from outside: after every ``kill -9`` a new watcher attaches and a new host is
brought up to date, and nothing of a dead process is left after the next start.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hotreload.link import ANSWER_SECONDS

if TYPE_CHECKING:
    from integration.harness import Bench, HostProgram

ROUNDS = 12
"""How often something is killed. Each round kills at another moment of a rebuild's way, which takes some ms."""
SEED = 20260117
NOBODY = 65534
LONGEST_MS = 6.0

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as two users, which takes root")


class Versions:
    """Modules of ever new content, by patching one: a compiler takes its time for each."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        number = "static const volatile int32_t number[] = {0x5eed1e55, 0};"
        self._data = bench.module(1, extra=number, slots={"a": "number[1]"}).read_bytes()
        self._at = self._data.index(struct.pack("<i", 0x5EED1E55)) + 4
        self.last = 0

    def build(self) -> int:
        """Puts the next one in place; its number, which the slot returns."""
        self.last += 1
        module = self.bench.work / "next.so"
        number = struct.pack("<i", self.last)
        module.write_bytes(self._data[: self._at] + number + self._data[self._at + 4 :])
        self.bench.put(module)
        return self.last


@pytest.fixture
def versions(bench: Bench) -> Versions:
    return Versions(bench)


def nap(chance: random.Random) -> None:
    """Until some moment of a swap's way. Nothing depends on how long it is: it only picks the moment."""
    time.sleep(chance.uniform(0, LONGEST_MS) / 1000)


def test_watchers_that_are_killed_at_any_moment(bench: Bench, versions: Versions) -> None:
    host = bench.host()
    chance = random.Random(SEED)
    for _ in range(ROUNDS):
        watch = bench.watch()
        watch.event("attach", pid=host.pid)
        versions.build()
        nap(chance)
        watch.kill()
        assert host.check_state().values["a"] <= versions.last
    watch = bench.watch()
    watch.event("attach", pid=host.pid)
    host.runs(a=versions.last)
    host.runs(a=versions.build())
    host.check_state()
    told = host.history("a")
    assert told == sorted(set(told)) and told[-1] == versions.last  # never one twice, never an older one again
    left = [name for name in bench.leftovers() if name.startswith("watch-")]
    assert len(left) == 1 and left[0].split("-")[1] == str(watch.pid)
    assert watch.interrupt() == 130
    assert bench.leftovers() == [str(host.pid), f"{host.pid}.sock"]


def test_hosts_that_are_killed_at_any_moment(bench: Bench, versions: Versions) -> None:
    watch = bench.watch()
    chance = random.Random(SEED)
    host = bench.host()
    host.runs(a=versions.build())
    for _ in range(ROUNDS):
        versions.build()
        nap(chance)
        host.kill()
        watch.event("detach", pid=host.pid)
        host = bench.host()
        host.runs(a=versions.last)  # the newest, whether or not the one before has seen it
        host.check_state()
    host.runs(a=versions.build())
    host.check_state()
    (pid,) = (name.split("-")[1] for name in bench.leftovers() if name.startswith("watch-"))
    assert pid == str(watch.pid)
    assert watch.interrupt() == 130
    assert watch.errors.end() == []
    assert bench.leftovers() == [str(host.pid), f"{host.pid}.sock"]


def test_both_are_killed(bench: Bench, versions: Versions) -> None:
    chance = random.Random(SEED)
    for _ in range(3):
        host, watch = bench.host(), bench.watch()
        watch.event("attach", pid=host.pid)
        versions.build()
        nap(chance)
        host.kill()
        watch.kill()
    host, watch = bench.host(), bench.watch()
    host.runs(a=versions.last)
    host.check_state()
    assert watch.interrupt() == 130
    assert bench.leftovers() == [str(host.pid), f"{host.pid}.sock"]


def test_a_host_that_is_stopped_keeps_no_other_waiting(bench: Bench, versions: Versions) -> None:
    stopped = bench.host("stopped", "other")
    host = bench.host()
    stopped.process.send_signal(19)
    try:
        watch = bench.watch()
        host.runs(a=versions.build())
        assert watch.alive
    finally:
        stopped.process.send_signal(18)
    watch.event("attach", pid=stopped.pid)  # it is found when it goes on
    stopped.check_state()


def test_a_host_that_is_stopped_while_it_is_watched_keeps_no_other_waiting(bench: Bench, versions: Versions) -> None:
    """The other host has the new code before the patience for an answer could end, and we are told why one has not."""
    stopped, host, watch = bench.host("stopped"), bench.host(), bench.watch("--json")
    for each in (stopped, host):
        watch.event("attach", pid=each.pid)
    stopped.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        host.runs(a=(version := versions.build()))
        assert time.monotonic() - began < ANSWER_SECONDS / 3
        assert "is stopped" in watch.event("detach", pid=stopped.pid)["reason"]
        host.runs(a=(version := versions.build()))
    finally:
        stopped.process.send_signal(signal.SIGCONT)
    stopped.runs(a=version)
    stopped.check_state()
    host.check_state()


def test_commands_leave_out_a_host_that_is_stopped(bench: Bench) -> None:
    stopped, host = bench.host("stopped"), bench.host()
    module = bench.module(1)
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        began = time.monotonic()
        done = bench.call("ps", "--json")
        assert [each["host"]["pid"] for each in done.json[0]] == [host.pid]
        done = bench.call("load", module)
        assert done.code == 0 and f"host {stopped.pid} is stopped" in done.err
        done = bench.call("load", "--host", str(stopped.pid), module)
        assert done.code == 4 and "E-HOST-GONE" in done.err and f"kill -CONT {stopped.pid}" in done.err
        assert time.monotonic() - began < ANSWER_SECONDS / 2
    finally:
        stopped.process.send_signal(signal.SIGCONT)


def test_one_tool_that_dies_in_the_middle_of_its_request_leaves_the_host_free(bench: Bench, versions: Versions) -> None:
    host = bench.host()
    header = struct.pack("=IHHII", 0x48525731, 1, 3, 1032, 1)  # prepare, with one path
    versions.build()
    path = struct.pack("=II", 1, 0) + os.fsencode(bench.out / "m.so").ljust(1024, b"\0")
    for cut in (1, 15, 16, 500, len(path) + 16):
        with socket.socket(socket.AF_UNIX) as tool:
            tool.connect(str(bench.sockets / f"{host.pid}.sock"))
            tool.sendall((header + path)[:cut])
    assert host.check_state().values == {"a": 0}  # prepared at most, and taken back
    assert bench.call("load", bench.out / "m.so").code == 0
    host.runs(a=versions.last)
    host.check_state()


# ---- other users ----


CONNECT = """\
import os, socket, struct, sys
path, module, user = sys.argv[1:]
# Not started as that user: the interpreter may lie where only we can go.
if int(user) != os.getuid():
    os.setgroups([])
    os.setgid(int(user))
    os.setuid(int(user))
with socket.socket(socket.AF_UNIX) as tool:
    tool.settimeout(10)
    try:
        tool.connect(path)
        tool.sendall(struct.pack("=IHHII", 0x48525731, 1, 2, 1032, 1))
        tool.sendall(struct.pack("=II", 1, 0) + os.fsencode(module).ljust(1024, b"\\0"))
        print("answered" if tool.recv(100) else "hung up")
    except OSError as error:
        print(type(error).__name__)
"""


def connect_as(user: int, bench: Bench, host: HostProgram) -> str:
    """What becomes of a user's request that the host load the output."""
    arguments = [str(bench.sockets / f"{host.pid}.sock"), str(bench.out / "m.so"), str(user)]
    done = subprocess.run([sys.executable, "-c", CONNECT, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def open_up(*paths: Path) -> None:
    for path in paths:
        path.chmod(0o777)


@as_root
def test_another_user_cannot_reach_a_host(bench: Bench, versions: Versions) -> None:
    host = bench.host()
    versions.build()
    assert connect_as(NOBODY, bench, host) == "PermissionError"
    # Neither do the credentials of the peer let it in, where the modes would.
    open_up(bench.home, bench.run, bench.sockets, bench.sockets / f"{host.pid}.sock")
    assert connect_as(NOBODY, bench, host) in ("hung up", "BrokenPipeError", "ConnectionResetError")
    assert host.check_state().values == {"a": 0}
    close_again(bench)
    assert bench.slots(host)[0]["version"] == 0
    assert connect_as(os.getuid(), bench, host) == "answered"  # the request is a good one
    host.runs(a=versions.last)


def close_again(bench: Bench) -> None:
    for path in (bench.home, bench.run, bench.sockets):
        path.chmod(0o700)


@as_root
def test_a_module_of_another_user_is_refused(bench: Bench, versions: Versions) -> None:
    host = bench.host()
    versions.build()
    module = bench.out / "m.so"
    os.chown(module, NOBODY, NOBODY)
    done = bench.call("load", "--json", module)
    (told,) = done.json
    assert done.code == 3 and told["code"] == "E-DENIED" and "chown" in told["fix"]
    watch = bench.watch()
    watch.event("attach", pid=host.pid)
    assert watch.event("reject")["code"] == "E-DENIED"
    assert host.check_state().values == {"a": 0}


@as_root
def test_a_directory_of_another_user_is_refused(bench: Bench, versions: Versions) -> None:
    host = bench.host()
    versions.build()
    os.chown(bench.out, NOBODY, NOBODY)
    done = bench.call("load", "--json", bench.out / "m.so")
    assert done.code == 3 and done.json[0]["code"] == "E-DENIED"
    assert host.check_state().values == {"a": 0}


@as_root
def test_a_socket_that_another_user_owns_is_not_spoken_with(bench: Bench) -> None:
    bench.host()
    home = bench.work / "theirs"
    home.mkdir()
    (home / "hotreload").mkdir(mode=0o700)
    os.chown(home / "hotreload", NOBODY, NOBODY)
    done = bench.call("ps", XDG_RUNTIME_DIR=str(home))
    assert done.code in (1, 3) and "E-DENIED" in done.err and "chmod 700" in done.err


# ---- files that others could change ----


def test_what_the_group_may_write_to_is_refused_until_it_is_put_right(bench: Bench, versions: Versions) -> None:
    host, watch = bench.host(), bench.watch()
    host.runs(a=versions.build())
    bench.out.chmod(0o770)
    versions.build()
    assert watch.event("reject")["code"] == "E-DENIED"
    bench.out.chmod(0o700)
    host.runs(a=versions.build())
    scratch = bench.work / "open.so"
    shutil.copyfile(bench.out / "m.so", scratch)
    data = scratch.read_bytes()
    scratch.write_bytes(data.replace(struct.pack("<ii", 0x5EED1E55, versions.last), struct.pack("<ii", 0x5EED1E55, 99)))
    scratch.chmod(0o664)
    scratch.replace(bench.out / "m.so")
    assert "m.so" in watch.event("reject", 2)["fix"]
    (bench.out / "m.so").chmod(0o644)
    host.runs(a=99)
    host.check_state()


def test_the_directories_are_private(bench: Bench, versions: Versions) -> None:
    host, watch = bench.host(), bench.watch()
    host.runs(a=versions.build())
    places = [bench.sockets, bench.state / "hotreload", *bench.sockets.glob("watch-*")]
    places.append(bench.state / "hotreload" / str(host.pid))
    assert len(places) == 4
    assert [oct(path.stat().st_mode & 0o777) for path in places] == ["0o700"] * 4
    assert (bench.sockets / f"{host.pid}.sock").stat().st_mode & 0o777 == 0o600
    (staged,) = (bench.state / "hotreload" / str(host.pid)).glob("m-*.so")
    assert staged.stat().st_mode & 0o777 == 0o500
    assert str(staged) in Path(f"/proc/{host.pid}/maps").read_text()
    assert watch.interrupt() == 130
