"""Every code of DESIGN.md section 5 by a real module file, through ``watch``, ``load``, ``inspect`` and the Python API.

One table drives all routes: a file is placed in a watched directory, and each route is asked about that very file. The
host behind the route must live on, its slots unchanged, and the next good module must swap in.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from integration.harness import (
    Bench,
    HostProgram,
    bench_in,
    manifest_offset,
    patched,
)

VETO = 7
VERSIONS = count(1)
"""Every content of this file is new: what ran before is `same`, and what was rolled back stays refused."""


@dataclass(frozen=True)
class Refusal:
    """How a route tells a refusal; None where it does not tell that part."""

    code: str
    reason: str
    fix: str
    found: str | None = None
    expected: str | None = None


# ---- the files ----


def good(bench: Bench, **options: Any) -> Path:
    return bench.module(next(VERSIONS), **options)


def changed(change: Callable[[bytes], bytes]) -> Callable[[Bench], Path]:
    """A good module with some of its bytes changed."""

    def make(bench: Bench) -> Path:
        module = good(bench)
        module.write_bytes(change(module.read_bytes()))
        return module

    return make


def built(text: str = "", *flags: str, **options: Any) -> Callable[[Bench], Path]:
    """A module from C source: ``text``, or what `module_source` makes of the options."""

    def make(bench: Bench) -> Path:
        version = next(VERSIONS)
        return bench.link(
            bench.source(version, text=text.replace("VERSION", str(version)), **options),
            bench.work / "aside" / f"bad-{version}.so",
            *flags,
        )

    return make


def with_entries(*pairs: tuple[str, str], name: str = '"m"', number: str = "") -> Callable[[Bench], Path]:
    """A module whose manifest is written out, so that it can say what the macros would not."""
    entries = ", ".join(f"{{{symbol}, {function}, 0, 0}}" for symbol, function in pairs)
    return built(f"""\
#include <hotreload/abi.h>
static int32_t f(void *state, const void *in, void *out) {{ return VERSION; }}
static int data;
static const hr_patch_entry_v1 entries[] = {{{entries}}};
__attribute__((visibility("default"), used)) const hr_patch_module_v1 HOTPATCH_MODULE_V1 = {{
    HR_ABI_MAGIC_V1, 1, 56, VERSION, {name}, {number or len(pairs)}, 0, entries, 0, 0}};
int (*keep)(void) = (int (*)(void))&data;
""")


def text_file(bench: Bench) -> Path:
    path = bench.work / "aside" / "text.so"
    path.write_text(f"#!/bin/sh\n# a wrapper script, number {next(VERSIONS)}\n")
    return path


def half(data: bytes) -> bytes:
    return data[: len(data) // 2]


def in_header(at: int, form: str, value: int) -> Callable[[bytes], bytes]:
    return lambda data: patched(data, at, struct.pack(form, value))


def in_manifest(at: int, form: str, value: int) -> Callable[[bytes], bytes]:
    return lambda data: patched(data, manifest_offset(data) + at, struct.pack(form, value))


PLAIN_LIBRARY = '__attribute__((visibility("default"))) int answer(void) { return VERSION; }'


@dataclass(frozen=True)
class Case:
    """One way to be refused, and words that each text must contain."""

    code: str
    make: Callable[[Bench], Path]
    found: str
    expected: str | None
    """None where nothing particular is expected."""
    fix: str
    inspect: bool = True
    """Whether the file's bytes tell it, so that `inspect` does."""
    mode: int = 0o755
    directory: str = "out"
    burn: bool = False
    """Load it first, and roll it back."""
    described: bool = False
    """Only a host that describes its state refuses it: the Python one does not (typed slots do: test_typed)."""


EXECUTABLE = "int main(void) { return VERSION; }"
ON_LOAD = "return state->veto;"
OTHER_STATE = """\
#include <hotreload/patch.h>
#define FIELDS(F) F(host_state, count, uint64_t) F(host_state, veto, int64_t) F(host_state, loads, int32_t)
HR_STRUCT(host_state, FIELDS)
HR_LAYOUT(host_state, FIELDS)
static int32_t f(void *state, const void *in, void *out) { return VERSION; }
HR_MODULE_LAYOUT(, HR_TAKES("a", host_state, void, void))
HR_MODULE("m", VERSION, HR_PATCH("a", f))
"""
"""The state as it would be after an edit of its header, in a module that the host was not built for."""
CASES = {
    "group-writable file": Case("E-DENIED", good, "0775", "writable by its owner only", "chmod go-w", mode=0o775),
    "world-writable file": Case("E-DENIED", good, "0757", "writable by its owner only", "chmod go-w", mode=0o757),
    "group-writable directory": Case(
        "E-DENIED", good, "0775", "writable by its owner only", "chmod go-w", directory="open"
    ),
    "text": Case("E-NOT-ELF", text_file, "23 21 2f 62", "7f 45 4c 46", "-shared"),
    "executable": Case(
        "E-NOT-ELF", built(EXECUTABLE, "-no-pie", "-fno-pic"), "executable", "a shared library", "-shared"
    ),
    "object file": Case("E-NOT-ELF", built(EXECUTABLE, "-c"), "object", "a shared library", "-shared"),
    "aarch64": Case("E-ARCH", changed(in_header(18, "<H", 183)), "aarch64", "x86-64", "target"),
    "32-bit": Case("E-ARCH", changed(in_header(4, "<B", 1)), "class 1", "class 2", "target"),
    "big-endian": Case("E-ARCH", changed(in_header(5, "<B", 2)), "byte order 2", "little endian", "target"),
    "cut in half": Case("E-TRUNCATED", changed(half), "bytes", "bytes", "build"),
    "no manifest": Case("E-NO-MANIFEST", built(PLAIN_LIBRARY), "without it", "HOTPATCH_MODULE_V1", "HR_MODULE"),
    "magic": Case("E-ABI", changed(in_manifest(0, "<I", 0x48505432)), "0x48505432", "0x48505431", "headers"),
    "ABI version": Case("E-ABI", changed(in_manifest(4, "<H", 2)), "version 0x2", "version 0x1", "headers"),
    "struct size": Case("E-ABI", changed(in_manifest(6, "<H", 64)), "struct size 0x40", "struct size 0x38", "headers"),
    "too many entries": Case(
        "E-MANIFEST", with_entries(('"a"', "f"), number="9999999u"), "9999999", "at most", "split"
    ),
    "symbol twice": Case("E-MANIFEST", with_entries(('"a"', "f"), ('"a"', "f")), "a", "once", "remove one"),
    "empty symbol": Case("E-MANIFEST", with_entries(('""', "f")), "", "1 to 127 bytes", "name"),
    "no function": Case("E-MANIFEST", with_entries(('"a"', "0")), "a", "function", "function"),
    "data for a function": Case(
        "E-MANIFEST", with_entries(('"a"', "(hr_patch_fn)(void *)&data")), "0x", "executable", "HR_MODULE"
    ),
    "no name": Case("E-MANIFEST", with_entries(('"a"', "f"), name="0"), "0x0", "string", "HR_MODULE"),
    "name that is no UTF-8": Case("E-MANIFEST", with_entries(('"\\xff"', "f")), "1 bytes", "UTF-8", "name"),
    "unresolved symbol": Case(
        "E-SYMBOLS", built(extra="extern int nobody(void);", slots={"a": "nobody()"}), "nobody", "defined", "nobody",
        inspect=False,
    ),
    "another layout": Case(
        "E-LAYOUT", built(OTHER_STATE), "veto int64_t @8 (8)", "veto int32_t @8 (4)", "rebuild", inspect=False,
        described=True,
    ),
    "static TLS": Case(
        "E-STATIC-TLS",
        built(extra='static __thread int tls __attribute__((tls_model("initial-exec")));', slots={"a": "++tls"}),
        "initial-exec", "general dynamic", "-ftls-model=global-dynamic",
    ),
    "on_load": Case("E-ON-LOAD", built(on_load=ON_LOAD), f"status {VETO}", "status 0", "on_load", inspect=False),
    "rolled back": Case("E-QUARANTINED", good, "", None, "build again", inspect=False, burn=True),
}  # fmt: skip


# ---- the routes ----


def refusal_of(told: dict[str, Any]) -> Refusal:
    return Refusal(told["code"], told["reason"], told["fix"], told.get("found"), told.get("expected"))


class WatchRoute:
    """A watcher with a host of its own. It sees a file as soon as that is placed."""

    def __init__(self, bench: Bench, directories: list[Path]) -> None:
        self.bench = bench
        self.host = bench.host("watched")
        self.watch = bench.watch("--host", "watched", paths=directories)
        self.watch.event("attach")

    def accept(self, path: Path) -> None:
        self.watch.event("swap", path=str(path))

    def refuse(self, path: Path) -> Refusal:
        told = self.watch.event("reject", path=str(path))
        assert told.get("host", {"pid": self.host.pid})["pid"] == self.host.pid
        return refusal_of(told)

    def roll_back(self) -> None:
        assert self.bench.call("rollback", "--host", "watched").code == 0

    def check(self) -> int:
        return whole(self.host)


class LoadRoute:
    """``hotreload load`` into a host of its own."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.host = bench.host("loaded")

    def accept(self, path: Path) -> None:
        assert self.bench.call("load", "--host", "loaded", path).code == 0

    def refuse(self, path: Path) -> Refusal:
        done = self.bench.call("load", "--json", "--host", "loaded", path)
        assert done.code == 3, done
        (told,) = done.json
        assert told["event"] == "reject" and told["host"] == {"pid": self.host.pid, "name": "loaded"}
        return refusal_of(told)

    def roll_back(self) -> None:
        assert self.bench.call("rollback", "--host", "loaded").code == 0

    def check(self) -> int:
        return whole(self.host)


class ApiRoute:
    """`hotreload.Runtime` in a Python program."""

    def __init__(self, bench: Bench) -> None:
        program = Path(__file__).with_name("api_program.py")
        self.process = subprocess.Popen(
            [sys.executable, program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=bench.environment(),
            cwd=bench.work,
        )

    def ask(self, *request: str) -> dict[str, Any]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def accept(self, path: Path) -> None:
        assert self.ask("load", str(path)) == {"code": "ok"}

    def refuse(self, path: Path) -> Refusal:
        told = self.ask("load", str(path))
        assert told["type"] == "Rejected", told
        return refusal_of(told)

    def roll_back(self) -> None:
        assert self.ask("rollback") == {"code": "ok"}

    def check(self) -> int:
        told = self.ask("value")
        assert told.keys() == {"value", "generation"}
        return int(told["value"])

    def end(self) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        assert self.process.wait(60) == 0
        self.process.stdout.close()


def whole(host: HostProgram) -> int:
    """Asserts that a host lives and has lost nothing; what its slot returns now."""
    return host.check_state().values["a"]


@dataclass(frozen=True)
class World:
    """All routes on one bench; hosts and watcher live through all cases."""

    bench: Bench
    open: Path
    """A watched directory that its group may write to."""
    watch: WatchRoute
    load: LoadRoute
    api: ApiRoute

    @property
    def routes(self) -> tuple[WatchRoute | LoadRoute | ApiRoute, ...]:
        return (self.watch, self.load, self.api)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, cc: str, host_program: Path) -> Iterator[World]:
    work = tmp_path_factory.mktemp("codes")
    with bench_in(Path(tempfile.mkdtemp(prefix="hr-")), work, cc, host_program) as bench:
        (bench.work / "aside").mkdir()
        unsafe = bench.work / "open"
        unsafe.mkdir()
        unsafe.chmod(0o775)
        bench.host_environment = {"VETO": str(VETO)}
        api = ApiRoute(bench)
        yield World(bench, unsafe, WatchRoute(bench, [bench.out, unsafe]), LoadRoute(bench), api)
        api.end()


def check_texts(case: Case, refusal: Refusal) -> None:
    assert refusal.code == case.code, refusal
    for told, wanted in ((refusal.found, case.found), (refusal.expected, case.expected), (refusal.fix, case.fix)):
        assert told is None or wanted is None or (told and wanted in told), refusal
    assert refusal.reason, refusal


@pytest.mark.parametrize("name", CASES)
def test_code(name: str, world: World) -> None:
    case, bench = CASES[name], world.bench
    output = f"{name.replace(' ', '-')}.so"
    before = [route.check() for route in world.routes]
    bad = case.make(bench)
    if case.burn:
        path = bench.put(bad, output)
        for route in world.routes:
            route.accept(path)
            route.roll_back()
        other = bench.put(good(bench), output)  # a watcher is told of the same content only after another one
        world.watch.watch.event("swap", 2, path=str(other))
        before = [route.check() for route in world.routes]
    path = bench.put(bad, output, world.open if case.directory == "open" else None, case.mode)
    for route in world.routes[:2] if case.described else world.routes:
        check_texts(case, route.refuse(path))
    assert [route.check() for route in world.routes] == before
    done = bench.call("inspect", "--json", path)
    if case.inspect:
        check_texts(case, refusal_of(*done.json))
        assert done.code == 3
    else:
        assert done.code == 0 and done.json[0]["manifest"]["name"] == "m"
    path.unlink()
    good_path = bench.put(good(bench), f"after-{output}")
    world.watch.accept(good_path)
    world.api.accept(good_path)
    good_path.unlink()


def test_every_route_accepts_a_good_module_after_all_that(world: World) -> None:
    path = world.bench.put(good(world.bench), "last.so")
    for route in world.routes:
        route.accept(path)
    assert len({route.check() for route in world.routes}) == 1


# ---- what cannot be opened ----


@pytest.mark.parametrize(
    ("name", "found", "fix"),
    [("absent.so", "No such file", "exists"), ("out", "a directory", "file"), ("pipe.so", "a special file", "file")],
)
def test_what_cannot_be_opened(name: str, found: str, fix: str, world: World) -> None:
    path = world.bench.work / name
    if name == "pipe.so" and not path.exists():
        os.mkfifo(path)
    before = [route.check() for route in world.routes]
    case = Case("E-IO", good, found, "file", fix)
    for route in (world.load, world.api):
        check_texts(case, route.refuse(path))
    done = world.bench.call("inspect", "--json", path)
    assert done.code == 3
    check_texts(case, refusal_of(*done.json))
    assert [route.check() for route in world.routes] == before


# ---- hosts that are not there, not any more, or not of our kind ----


def told_on_stderr(bench: Bench, *arguments: str | Path) -> tuple[int, Refusal]:
    done = bench.call(*arguments, "--json")
    assert done.out == ""
    return done.code, refusal_of(json.loads(done.err))


@pytest.mark.parametrize("command", [["load", "m.so"], ["rollback"], ["slots"]], ids=" ".join)
def test_no_host(command: list[str], bench: Bench) -> None:
    code, told = told_on_stderr(bench, *command)
    assert code == 4
    assert told.code == "E-NO-HOST" and told.reason and "hr_serve" in told.fix
    bench.host("other")
    code, told = told_on_stderr(bench, *command, "--host", "somebody")
    assert code == 4 and "somebody" in told.reason and "hotreload ps" in told.fix


def test_a_host_that_reaches_no_safe_point(bench: Bench) -> None:
    """After its ten seconds nothing has changed."""
    host = bench.host("busy", SERVE="2")
    done = bench.call("load", "--json", bench.module(1))
    (told,) = done.json
    assert (done.code, told["code"]) == (3, "E-SAFE-POINT") and "hr_safepoint" in told["fix"]
    assert whole(host) == 0


DEADLY = {"extra": "#include <unistd.h>", "on_load": "if (state->veto) _exit(9); return 0;"}


def test_a_host_that_goes_while_it_loads(bench: Bench) -> None:
    frail, other = bench.host("frail", VETO="1"), bench.host("other")
    deadly = bench.module(1, **DEADLY)
    done = bench.call("load", "--json", deadly)
    assert done.code == 4
    assert frail.wait() == 9
    assert "E-HOST-GONE" in done.err and "exited" in done.err
    (told,) = done.json
    assert told["host"]["pid"] == other.pid and told["code"] == "E-ABORTED" and told["fix"]
    assert whole(other) == 0


def test_a_watched_host_that_goes_while_it_loads(bench: Bench) -> None:
    frail, other = bench.host("frail", VETO="1"), bench.host("other")
    watch = bench.watch()
    watch.event("attach", pid=frail.pid)
    watch.event("attach", pid=other.pid)
    bench.put(bench.module(1, **DEADLY))
    assert frail.wait() == 9
    watch.event("detach", pid=frail.pid)
    other.runs(a=1)  # without it, the transaction can go through
    bench.put(bench.module(2))
    other.runs(a=2)
    after = bench.host("frail")
    after.runs(a=2)
    other.check_state()


@contextmanager
def strange_host(bench: Bench, answer: bytes) -> Iterator[int]:
    """A socket in the place of a host's, owned by a living process, that answers every request with these bytes."""
    bench.sockets.mkdir(mode=0o700, exist_ok=True)
    pid = os.getppid()  # alive, and of no host
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bench.sockets / f"{pid}.sock"))
        listener.listen()
        listener.settimeout(0.05)
        ended = threading.Event()

        def serve() -> None:
            while not ended.is_set():
                try:
                    peer, _ = listener.accept()
                except TimeoutError:
                    continue
                # Whoever only looks whether somebody lives here hangs up without a word.
                with peer, suppress(OSError):
                    peer.settimeout(1)
                    if peer.recv(65536):
                        peer.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield pid
        finally:
            ended.set()
            thread.join()


HEADER = struct.Struct("=IHHII")
STRANGE = {
    "another version": HEADER.pack(0x48525731, 99, 129, 0, 1),
    "another program": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "a welcome of another size": HEADER.pack(0x48525731, 1, 129, 8, 1) + bytes(8),
    "an impossible length": HEADER.pack(0x48525731, 1, 129, 0xFFFFFFF0, 1),
}


@pytest.mark.parametrize("name", STRANGE)
def test_a_host_of_another_kind(name: str, bench: Bench) -> None:
    with strange_host(bench, STRANGE[name]) as pid:
        code, told = told_on_stderr(bench, "load", bench.module(1))
        assert code == 1
        assert told.code == "E-PROTOCOL" and told.reason and "build the host against" in told.fix, told
        watch = bench.watch("--plain")
        watch.says("E-PROTOCOL")
        host = bench.host()  # one that we cannot speak with keeps no other from us
        bench.put(bench.module(1))
        host.runs(a=1)
        assert f"host {pid}" in watch.output.lines[watch.says("E-PROTOCOL")]
        assert bench.call("load", bench.module(2)).code == 0
        assert json.loads(bench.call("ps", "--json").out)[0]["host"]["pid"] == host.pid
        host.runs(a=2)
