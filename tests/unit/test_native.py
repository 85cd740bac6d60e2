"""The binding: what comes over the wire or out of a black box, or goes to C, is checked before it is believed."""

from __future__ import annotations

import json
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hotreload import native
from hotreload._shim import ffi, lib
from hotreload.errors import HotreloadError, Rejected
from hotreload.model import SAME, ChangeKind, EventKind, Failure, Host, Manifest

LONG = 60.0
RETURNS_7 = "static int32_t f(void *s, const void *i, void *o) { (void)s, (void)i, (void)o; return 7; }"

# A host that does what it is told: each line on its standard input is an expression.
PROGRAM = """
import json, os, sys
import hotreload
runtime = hotreload.Runtime()
a = runtime.register_fallback("a", lambda state, given, result: 1)
odd = runtime.register_fallback("tab\\u2028le", lambda state, given, result: 2)
runtime.serve("host")
print("ready", flush=True)
for line in sys.stdin:
    print(json.dumps(eval(line)), flush=True)
"""

Ask = Callable[[str], Any]


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user's directories, with a short name: a socket's path holds 107 bytes at most."""
    home = tmp_path_factory.mktemp("h")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    return home


class PythonHost:
    def __init__(self, program: str = PROGRAM) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout and self.process.stdout.readline() == "ready\n"
        self.pid = self.process.pid
        self.socket = native.runtime_directory() / f"{self.pid}.sock"

    def ask(self, expression: str) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(LONG)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()

    def box(self) -> int:
        """A descriptor of its black box, asked for by hand."""
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(LONG)
            link.connect(str(self.socket))
            link.sendall(native.message(native.HELLO, native.hello_body(), 1))
            _, fds, _, _ = socket.recv_fds(link, 65536, 1)
            return fds[0]


@pytest.fixture
def host(home: Path) -> Iterator[PythonHost]:
    started = PythonHost()
    yield started
    started.close()


# ---- requests ----


def test_a_request_is_read_back_as_its_answer_would_be() -> None:
    data = bytearray(native.message(native.LOAD | lib.HR_MSG_REPLY, b"body", 7))
    assert native.parse_header(bytes(data[: native.HEADER_SIZE])) == (native.LOAD, 4, 7)
    assert data[native.HEADER_SIZE :] == b"body"


def test_paths_are_whole_or_refused() -> None:
    assert len(native.paths_body(["/a", "/b"])) == ffi.sizeof("hr_paths") + 2 * lib.HR_PATH_SIZE
    for path in ("/" + "x" * lib.HR_PATH_SIZE, "/a\0b"):
        with pytest.raises(Rejected, match="E-IO") as raised:
            native.paths_body(["/a", path])
        assert raised.value.found and raised.value.fix
    with pytest.raises(HotreloadError, match="E-LIMIT"):
        native.paths_body(["/a"] * (native.PATHS_MAX + 1))


@pytest.mark.parametrize("name", ["x" * 128, "a\0b", "\udc80", "é" * 64])
def test_names_that_c_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(HotreloadError, match="E-USAGE") as raised:
        native.rollback_body(name)
    assert raised.value.expected


def test_the_longest_name_fits() -> None:
    assert native.rollback_body("x" * 127) == b"x" * 127 + b"\0"
    assert native.rollback_body(None) == native.rollback_body("") == bytes(128)


# ---- answers ----


def header(**changes: int) -> bytes:
    fields = {"magic": lib.HR_WIRE_MAGIC, "version": lib.HR_WIRE_VERSION, "kind": 129, "length": 4, "id": 7, **changes}
    head = ffi.new("hr_message *", fields)
    return bytes(ffi.buffer(head))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        header()[:-1],
        header() + b"x",
        header(magic=0),
        header(version=2),
        header(kind=1),
        header(length=lib.HR_WIRE_LENGTH_MAX + 1),
        b"HTTP/1.1 400 Bad",
    ],
    ids=["nothing", "cut", "longer", "magic", "version", "no answer", "huge", "http"],
)
def test_headers_of_others(data: bytes) -> None:
    with pytest.raises(HotreloadError, match="E-PROTOCOL") as raised:
        native.parse_header(data)
    assert raised.value.fix


def reply(status: int = lib.HR_OK, *reports: bytes) -> bytes:
    head = ffi.new("hr_reply *", {"status": status, "count": len(reports)})
    return bytes(ffi.buffer(head)) + b"".join(reports)


def report(changes: int = 2, status: int = lib.HR_OK) -> bytes:
    size = ffi.offsetof("hr_report", "changes") + changes * ffi.sizeof("hr_change")
    raw = ffi.new("hr_report *", {"changes": changes})
    raw.size, raw.status, raw.change_count, raw.module, raw.content = size, status, changes, b"m", 5
    for i in range(changes):
        raw.changes[i].symbol, raw.changes[i].to, raw.changes[i].kind = b"m.%d" % i, i + 1, i % 3
    return bytes(ffi.buffer(raw, size))


def test_a_reply() -> None:
    parsed = native.parse_reply(reply(lib.HR_OK, report(), report(0, lib.HR_SAME), report(0, lib.HR_E_ABI)))
    assert parsed.code == "ok" and parsed.failure is None
    assert [each.code for each in parsed.reports] == ["ok", SAME, "E-ABI"]
    first, _, refused = parsed.reports
    assert [(each.symbol, each.before, each.after, each.kind) for each in first.changes] == [
        ("m.0", 0, 1, ChangeKind.SWAPPED),
        ("m.1", 0, 2, ChangeKind.UNDECLARED),
    ]
    assert (first.module.name, first.module.content, tuple(first.us)) == ("m", 5, native.STEPS)
    assert refused.failure and refused.failure.code == "E-ABI" and refused.failure.reason and refused.failure.fix
    assert native.parse_reply(reply(lib.HR_E_NO_PREVIOUS)).code == "E-NO-PREVIOUS"


def test_every_cut_reply_is_refused() -> None:
    whole = reply(lib.HR_OK, report(), report(1))
    assert len(native.parse_reply(whole).reports) == 2
    for length in (*range(64), *range(64, len(whole), 37), len(whole) - 1):
        with pytest.raises(HotreloadError, match="E-PROTOCOL"):
            native.parse_reply(whole[:length])
    with pytest.raises(HotreloadError, match="E-PROTOCOL"):
        native.parse_reply(whole + b"\0")


def test_damaged_replies_are_refused_or_read() -> None:
    """Whatever bytes come: a reply or E-PROTOCOL, nothing else."""
    chance = random.Random(1)
    whole = reply(lib.HR_OK, report(), report(1))
    # The fields that tell counts and sizes lie at the start of the reply and of each report, and before the changes.
    starts = [0, ffi.sizeof("hr_reply"), ffi.sizeof("hr_reply") + len(report())]
    refused = 0
    for _ in range(4000):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            near = chance.choice((*starts, starts[1] + ffi.offsetof("hr_report", "warnings")))
            at = near + chance.randrange(16) if chance.random() < 0.8 else chance.randrange(len(data))
            data[at] = chance.choice((0, 1, 0x7F, 0xFF, chance.randrange(256)))
        try:
            native.parse_reply(bytes(data))
        except HotreloadError as error:
            refused += error.code == "E-PROTOCOL" or pytest.fail(str(error))
    assert refused > 1000, "the damage reached what is checked"


@pytest.mark.parametrize("size", [0, 1, 4096])
def test_welcomes_of_another_size(size: int) -> None:
    with pytest.raises(HotreloadError, match="E-PROTOCOL"):
        native.parse_welcome(bytes(size))


# ---- build outputs ----


def test_inspecting(build_module: Callable[..., Path]) -> None:
    module = build_module("m", 3, RETURNS_7, {"a": "f", "b": "f"}, flags=["-Wl,--build-id=0x00112233"])
    found = native.inspect(module)
    assert isinstance(found, Manifest)
    assert (found.module.name, found.module.version, found.module.build_id) == ("m", 3, "00112233")
    assert found.symbols == ("a", "b") and found.module.path == str(module) and found.module.content
    assert native.settled(module) is None


def test_inspecting_what_is_no_module(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_text("not a library" * 100)
    (tmp_path / "x.so").chmod(0o644)
    for path in (tmp_path / "x.so", tmp_path / "missing.so", tmp_path):
        found = native.inspect(path)
        assert isinstance(found, Failure) and found.code.startswith("E-") and found.reason and found.fix


# ---- the black box ----


def until_told_of_first_call(box: native.Box) -> None:
    """The host's own thread tells of a new version's first call, a moment after it; the records are read again then."""
    deadline = time.monotonic() + 20
    while not any(record.kind is EventKind.CALLED for _, record in box.events(0)[1]):
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_snapshot(host: PythonHost, build_module: Callable[..., Path]) -> None:
    module = build_module("m", 3, RETURNS_7, {"a": "f"})
    fd = host.box()
    box = native.Box(fd, Host(host.pid, "host"))
    os.close(fd)
    before = box.snapshot(1.0)
    assert [(each.symbol, each.version, each.state.value) for each in before.slots] == [
        ("a", 0, "fallback"),
        ("tab\u2028le", 0, "fallback"),
    ]
    assert before.host.started > 0 and before.alive and list(before.calls) == [0, 0]
    assert host.ask("[a() for _ in range(10)]") == [1] * 10
    host.ask(f"runtime.load_module({str(module)!r}).generation")
    assert host.ask("[a() for _ in range(5)]") == [7] * 5
    now = box.snapshot(2.0)
    assert (now.slots[0].version, now.slots[0].calls_at_swap, list(now.calls)) == (1, 10, [15, 0])
    assert now.calls_on_version(0) == 5 and now.generation == 1
    assert now.slots[0].module and now.slots[0].module.path == str(module)
    assert [(each.module.name, each.state) for each in now.modules] == [("m", "live")]
    until_told_of_first_call(box)
    now, again = box.snapshot(3.0), box.snapshot(4.0)
    assert again.slots is now.slots and again.modules is now.modules, "read again only when something was swapped"


def test_a_dead_hosts_box_can_be_read(host: PythonHost) -> None:
    fd = host.box()
    box = native.Box(fd, Host(host.pid, "host"))
    os.close(fd)
    host.ask("[a() for _ in range(3)]")
    host.kill()
    assert list(box.snapshot(1.0, alive=False).calls) == [3, 0]
    assert not box.snapshot(1.0, alive=False).alive


def test_events(host: PythonHost, build_module: Callable[..., Path], tmp_path: Path) -> None:
    fd = host.box()
    box = native.Box(fd, Host(host.pid, "host"))
    os.close(fd)
    start = box.newest_event()
    module = build_module("m", 3, RETURNS_7, {"a": "f", "tab\u2028le": "f"})
    host.ask(f"runtime.load_module({str(module)!r}).generation")
    (tmp_path / "no.so").write_bytes(b"no")
    (tmp_path / "no.so").chmod(0o644)
    host.ask(f"[1 for _ in range(99) if runtime._handle.load([{str(tmp_path / 'no.so')!r}])]")
    last, first = box.events(start, 64)
    assert len(first) == 64 and last == start + 64
    (origin, swap), (_, reject) = first[:2]
    assert origin == 0 and swap.kind.value == "swap"
    assert [(each.symbol, each.before, each.after) for each in swap.changes] == [("a", 0, 1), ("tab\u2028le", 0, 1)]
    assert reject.kind.value == "reject" and reject.code and reject.reason and reject.fix
    last, rest = box.events(last, 64)
    assert len(rest) == 36 and box.events(last, 64) == (last, []) and last == box.newest_event()


DAMAGE = """
import fcntl, mmap, os, random, sys
from hotreload import native
from hotreload._shim import ffi
from hotreload.errors import HotreloadError
from hotreload.model import Host
seed, fd = int(sys.argv[1]), int(sys.argv[2])
chance = random.Random(seed)
size = os.fstat(fd).st_size
whole = os.pread(fd, ffi.sizeof("hr_box"), 0)
slots = ffi.cast("hr_box *", ffi.from_buffer(whole)).slots_offset
events = ffi.cast("hr_box *", ffi.from_buffer(whole)).events_offset
refused = read = 0
for _ in range(400):
    copy = os.memfd_create("box", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.fchmod(copy, 0o600)
    os.ftruncate(copy, chance.choice((size, size, size, size // 2, 4096, 5000)))
    if chance.random() < 0.5:  # mapped by the reader; otherwise copied
        fcntl.fcntl(copy, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    os.pwrite(copy, whole, 0)
    if os.fstat(copy).st_size == size:
        for at, length in ((slots, 1024), (events, 16384)):
            os.pwrite(copy, os.pread(fd, length, at), at)
    def damage(box):
        head = ffi.offsetof("hr_box", "program") // 4
        at = chance.randrange(head) * 4 if box is None else slots + chance.randrange(256) * 4
        if chance.random() < 0.2:
            at = events + chance.randrange(4096) * 4
        if at + 4 <= os.fstat(copy).st_size:
            value = chance.choice((0, 1, 2, 0x7FFFFFFF, 0xFFFFFFFF, chance.getrandbits(32), chance.getrandbits(12)))
            os.pwrite(copy, value.to_bytes(4, "little"), at)
    if chance.random() < 0.5:
        damage(None)
    try:
        box = native.Box(copy, Host(1, "x"))
        for _ in range(6):
            box.snapshot(0.0)
            box.events(chance.choice((0, box.newest_event() - 1, 2**63)) if box.newest_event() else 0)
            damage(chance.choice((None, box)))
        box.close()
        read += 1
    except HotreloadError as error:
        assert error.code == "E-PROTOCOL", error
        refused += 1
    os.close(copy)
print(read, refused)
"""


@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_box_is_refused_or_read(host: PythonHost, build_module: Callable[..., Path], seed: int) -> None:
    """Damaged before it is opened and under the reader: nothing but E-PROTOCOL, and above all no crash."""
    module = build_module("m", 3, RETURNS_7, {"a": "f"})
    host.ask(f"runtime.load_module({str(module)!r}).generation")
    fd = host.box()
    done = subprocess.run(
        [sys.executable, "-c", DAMAGE, str(seed), str(fd)], pass_fds=[fd], capture_output=True, text=True, timeout=60
    )
    os.close(fd)
    assert done.returncode == 0, f"{done.returncode} {done.stderr}"
    read, refused = map(int, done.stdout.split())
    assert read > 50 and refused > 50


@pytest.mark.parametrize("kind", ["empty", "small", "pipe", "directory", "zeros"])
def test_what_is_no_box(kind: str, tmp_path: Path) -> None:
    if kind == "pipe":
        fd, other = os.pipe()
        os.close(other)
    elif kind == "directory":
        fd = os.open(tmp_path, os.O_RDONLY)
    else:
        fd = os.memfd_create("box")
        os.ftruncate(fd, {"empty": 0, "small": 4095, "zeros": 1 << 20}[kind])
    with pytest.raises(HotreloadError, match="E-PROTOCOL"):
        native.Box(fd, Host(1, "x"))
    os.close(fd)
