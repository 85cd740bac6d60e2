"""A connection to a host: against hosts that speak garbage, and the host's side against tools that do."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Thread, Timer

import pytest

from hotreload import hosts, link, native
from hotreload._shim import ffi, lib
from hotreload.errors import HotreloadError, NoHost
from hotreload.link import Link

LONG = 60.0
RETURNS_7 = "static int32_t f(void *s, const void *i, void *o) { (void)s, (void)i, (void)o; return 7; }"
PROGRAM = """
import sys
import hotreload
runtime = hotreload.Runtime()
slot = runtime.register_fallback("a", lambda state, given, result: 1)
runtime.serve("host")
print("ready", flush=True)
for line in sys.stdin:
    print(slot(), flush=True)
"""


@pytest.fixture
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This user's directories, with a short name: a socket's path holds 107 bytes at most."""
    home = tmp_path_factory.mktemp("h")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(home))
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    return home


def exactly(raw: socket.socket, size: int) -> bytes:
    """MSG_WAITALL does not wait on sockets with a timeout."""
    data = b""
    while len(data) < size and (part := raw.recv(size - len(data))):
        data += part
    return data


class RealHost:
    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout and self.process.stdout.readline() == "ready\n"
        self.pid = self.process.pid
        self.socket = native.runtime_directory() / f"{self.pid}.sock"

    def call(self) -> int:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def connect(self) -> socket.socket:
        raw = socket.socket(socket.AF_UNIX)
        raw.connect(str(self.socket))  # without a timeout: it waits while the backlog is full
        raw.settimeout(LONG)
        return raw

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def host(home: Path) -> Iterator[RealHost]:
    started = RealHost()
    yield started
    started.close()


@pytest.fixture
def module(build_module: Callable[..., Path]) -> Path:
    return build_module("m", 1, RETURNS_7, {"a": "f"})


@pytest.fixture
def no_leak() -> Iterator[None]:
    """Nothing that failed leaves a descriptor behind."""
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208
    yield
    assert len(set(os.listdir("/proc/self/fd"))) <= len(before)  # noqa: PTH208


# ---- the tool against hosts ----


def test_a_link(host: RealHost, module: Path) -> None:
    with Link(host.socket) as peer:
        assert (peer.host.pid, peer.host.name, peer.host.version) == (host.pid, "host", native.version())
        assert peer.load([str(module)]).code == "ok"
        assert host.call() == 7
        assert peer.load([str(module)]).reports[0].code == "same"
        assert peer.rollback("m").code == "ok" and host.call() == 1
        refused = peer.rollback("m")
        assert refused.failure and refused.failure.code == "E-NO-PREVIOUS"
        quarantined = peer.load([str(module)])
        assert quarantined.failure and quarantined.failure.code == "E-QUARANTINED" and quarantined.failure.fix
        # What the host does by itself later on is nobody's answer.
        assert {each.kind.value for each in peer.foreign_events()} <= {"retire", "called"}
        peer.close()
        assert peer.fileno() == -1
        assert list(peer.snapshot(1.0).calls) == [2], "the box stays readable"


def test_a_transaction_is_taken_back_or_made(host: RealHost, module: Path) -> None:
    with Link(host.socket) as peer:
        peer.begin_prepare([str(module)])
        assert peer.finish().code == "ok"
        assert host.call() == 1
        peer.begin_abort()
        assert peer.finish().code == "ok"
        peer.begin_commit()
        nothing = peer.finish()
        assert nothing.failure and nothing.failure.code == "E-PROTOCOL"
        peer.begin_prepare([str(module)])
        peer.finish()
    with Link(host.socket) as peer:
        peer.begin_commit()
        assert peer.finish().failure, "what the other had prepared went with its connection"
        assert host.call() == 1
        peer.begin_prepare([str(module)])
        peer.finish()
        peer.begin_commit()
        assert peer.finish().reports[0].code == "ok" and host.call() == 7


def test_events_of_others(host: RealHost, module: Path) -> None:
    with Link(host.socket) as mine, Link(host.socket) as other:
        other.load([str(module)])
        assert [each.kind.value for each in mine.foreign_events()] == ["swap"]
        assert mine.foreign_events() == [] == other.foreign_events()
        for _ in range(200):
            other.load([str(module)])
        assert [each.kind.value for each in mine.foreign_events()] == ["same"] * 200, "in one go, however many"


def test_a_host_that_ends(host: RealHost) -> None:
    with Link(host.socket) as peer:
        host.close()
        for _ in range(2):
            with pytest.raises(NoHost, match="E-HOST-GONE"):
                peer.load(["/x.so"])
    with pytest.raises(NoHost, match="no host answers"):
        Link(host.socket)


def stand_still(pid: int) -> None:
    """Stops a process; returns when none of its threads runs any more: the signal reaches them one by one."""
    os.kill(pid, signal.SIGSTOP)
    threads = Path(f"/proc/{pid}/task")
    while any(each.joinpath("stat").read_text().rpartition(")")[2].split()[0] != "T" for each in threads.iterdir()):
        time.sleep(0.001)


def test_a_connection_that_another_thread_closes(host: RealHost) -> None:
    """The runner does so when it sees that a host has died, while the swapper waits for that host's answer."""
    for before in (True, False):
        with Link(host.socket) as peer:
            stand_still(host.pid)  # it owes an answer
            peer.begin_load(["/x.so"])
            close = Timer(0.0 if before else 0.05, peer.close)
            close.start()
            if before:
                close.join()
            try:
                with pytest.raises(NoHost, match="the host has exited" if before else "E-HOST-GONE"):
                    peer.finish()
                with pytest.raises(NoHost, match="E-HOST-GONE"):
                    peer.layouts()
            finally:
                close.join()
                os.kill(host.pid, signal.SIGCONT)
            assert peer.fileno() == -1


def test_a_descriptor_in_use_is_not_given_away(host: RealHost) -> None:
    """The number that `close` frees goes to the next connection: whoever still waits would take that one's answers."""
    with Link(host.socket) as peer:
        number = peer.fileno()
        with peer._using:  # as while it waits
            closing = Thread(target=peer.close)
            closing.start()
            closing.join(0.1)
            assert closing.is_alive() and peer.fileno() == number
        closing.join(LONG)
        assert peer.fileno() == -1


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(NoHost) as raised:
        Link(tmp_path / "1.sock")
    assert raised.value.fix


Talk = Callable[[socket.socket], None]


class FakeHost:
    """A socket whose peer does what the test says, once for each connection, on a thread."""

    def __init__(self, path: Path, talk: Talk) -> None:
        self.path = path
        self._talk = talk
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._thread = Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return
            with peer:
                peer.settimeout(LONG)
                try:
                    self._talk(peer)
                except OSError:
                    pass  # the tool has hung up: so it should

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LONG)


@pytest.fixture
def pretend(home: Path) -> Iterator[Callable[[Talk], Path]]:
    """Returns ``pretend(talk)``: a host of pid 1 that talks like that; the path of its socket."""
    with ExitStack() as stack:

        def install(talk: Talk) -> Path:
            fake = FakeHost(native.runtime_directory() / "1.sock", talk)
            stack.callback(fake.close)
            return fake.path

        yield install


def answer(kind: int = native.HELLO, body: bytes = b"", number: int = 1, **changes: int) -> bytes:
    fields = {"magic": lib.HR_WIRE_MAGIC, "version": lib.HR_WIRE_VERSION, "kind": kind | lib.HR_MSG_REPLY}
    head = ffi.new("hr_message *", {**fields, "length": len(body), "id": number, **changes})
    return bytes(ffi.buffer(head)) + body


WELCOME = bytes(ffi.buffer(ffi.new("hr_welcome *", {"pid": 1, "name": b"fake"})))
REQUEST = native.HEADER_SIZE + len(native.hello_body())


def says(data: bytes, *, with_fd: Callable[[], list[int]] | None = None) -> Talk:
    def talk(peer: socket.socket) -> None:
        exactly(peer, REQUEST)
        if with_fd is None:
            peer.sendall(data)
        else:
            fds = with_fd()
            socket.send_fds(peer, [data], fds)
            for fd in fds:
                os.close(fd)

    return talk


def unsealed() -> list[int]:
    fd = os.memfd_create("box")
    os.ftruncate(fd, 1 << 20)
    return [fd]


def empty_pipe() -> list[int]:
    read, write = os.pipe()
    os.close(write)
    return [read]


def sealed_zeros() -> list[int]:
    import fcntl

    fd = os.memfd_create("box", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 1 << 20)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return [fd]


@pytest.mark.parametrize(
    ("talk", "code"),
    [
        (says(b""), "E-HOST-GONE"),
        (says(answer()[:7]), "E-HOST-GONE"),
        (says(answer(body=WELCOME)[:-1]), "E-HOST-GONE"),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "E-PROTOCOL"),
        (says(random.Random(1).randbytes(4096)), "E-PROTOCOL"),
        (says(bytes(4096)), "E-PROTOCOL"),
        (says(answer(body=WELCOME, version=2)), "E-PROTOCOL"),
        (says(answer(body=WELCOME, length=0xFFFFFFFF)), "E-PROTOCOL"),
        (says(answer(body=WELCOME, length=lib.HR_WIRE_LENGTH_MAX)), "E-HOST-GONE"),
        (says(answer(body=WELCOME, number=2)), "E-PROTOCOL"),
        (says(answer(native.LOAD, WELCOME)), "E-PROTOCOL"),
        (says(answer(body=WELCOME[:-1])), "E-PROTOCOL"),
        (says(answer(body=WELCOME + b"x")), "E-PROTOCOL"),
        (says(answer(body=WELCOME)), "E-PROTOCOL"),
        (says(answer(body=WELCOME), with_fd=lambda: unsealed() + unsealed()), "E-PROTOCOL"),
        (says(answer(body=WELCOME), with_fd=unsealed), "E-PROTOCOL"),
        (says(answer(body=WELCOME), with_fd=empty_pipe), "E-PROTOCOL"),
        (says(answer(body=WELCOME), with_fd=sealed_zeros), "E-PROTOCOL"),
        (says(b"garbage", with_fd=sealed_zeros), "E-HOST-GONE"),
        (says(b"garbage" * 9, with_fd=sealed_zeros), "E-PROTOCOL"),
    ],
    ids=[
        *("hangs up", "half a header", "half a welcome", "http", "random", "zeros", "version", "huge", "long"),
        *("number", "kind", "short", "too long", "no box", "two boxes", "unsealed", "pipe", "no box in it"),
        *("garbage with a box", "more garbage with a box"),
    ],
)
@pytest.mark.usefixtures("no_leak")
def test_hosts_that_speak_garbage(pretend: Callable[[Talk], Path], talk: Talk, code: str) -> None:
    path = pretend(talk)
    with pytest.raises(HotreloadError) as raised:
        Link(path)
    assert raised.value.code == code and raised.value.reason and raised.value.fix


def test_a_host_that_says_nothing(pretend: Callable[[Talk], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "ANSWER_SECONDS", 0.2)

    def talk(peer: socket.socket) -> None:
        while peer.recv(4096):
            pass

    with pytest.raises(NoHost, match="did not answer") as raised:
        Link(pretend(talk))
    assert raised.value.fix


class Between:
    """Between a tool and a real host: the first answer passes unchanged, with its box; then ``change`` says what the
    tool gets for the next ones, and after less than a whole answer it hangs up."""

    def __init__(self, host: RealHost, change: Callable[[bytes], bytes]) -> None:
        self._host, self._change = host, change

    def __call__(self, peer: socket.socket) -> None:
        with self._host.connect() as real:
            real.sendall(exactly(peer, REQUEST))
            data, fds, _, _ = socket.recv_fds(real, 65536, 1)
            socket.send_fds(peer, [data], fds)
            os.close(fds[0])
            while request := peer.recv(1 << 20):
                real.sendall(request)
                whole = self.whole_answer(real)
                changed = self._change(whole)
                peer.sendall(changed)
                if changed and len(changed) < len(whole):
                    return

    def whole_answer(self, real: socket.socket) -> bytes:
        head = exactly(real, native.HEADER_SIZE)
        (length,) = struct.unpack_from("=I", head, 8)
        return head + exactly(real, length)


def at(offset: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda data: data[:offset] + value + data[offset + len(value) :]


BODY = native.HEADER_SIZE


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda data: data[:1], "E-HOST-GONE"),
        (lambda data: data[:100], "E-HOST-GONE"),
        (lambda data: data[: BODY - 1], "E-HOST-GONE"),
        (lambda data: random.Random(2).randbytes(len(data)), "E-PROTOCOL"),
        (at(4, b"\x09"), "E-PROTOCOL"),
        (at(12, b"\x77"), "E-PROTOCOL"),
        (at(BODY + 4, b"\xff\xff\xff\xff"), "E-PROTOCOL"),
        (at(BODY + ffi.sizeof("hr_reply"), b"\0\0\0\0"), "E-PROTOCOL"),
        (at(BODY + ffi.sizeof("hr_reply"), b"\xff\xff\xff\x7f"), "E-PROTOCOL"),
        (at(BODY + ffi.sizeof("hr_reply") + ffi.offsetof("hr_report", "change_count"), b"\xff\xff"), "E-PROTOCOL"),
    ],
    ids=["end", "cut", "half header", "random", "version", "number", "count", "size 0", "size", "changes"],
)
def test_answers_that_make_no_sense(
    pretend: Callable[[Talk], Path],
    host: RealHost,
    module: Path,
    change: Callable[[bytes], bytes],
    code: str,
) -> None:
    with Link(pretend(Between(host, change))) as peer:
        with pytest.raises(HotreloadError) as raised:
            peer.load([str(module)])
        assert raised.value.code == code
        with pytest.raises(NoHost, match="E-HOST-GONE"):
            peer.rollback(None)
    assert host.call() == 7, "the host did what was asked, whatever the tool heard of it"


def test_a_late_answer_is_not_taken_for_another(
    pretend: Callable[[Talk], Path], host: RealHost, module: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link, "ANSWER_SECONDS", 0.5)
    with Link(pretend(Between(host, lambda data: b""))) as peer:
        with pytest.raises(NoHost, match="did not answer"):
            peer.load([str(module)])
        with pytest.raises(NoHost):
            peer.load([str(module)])


# ---- one bad neighbour ----


def test_bad_neighbours_keep_nobody_from_his_host(pretend: Callable[[Talk], Path], host: RealHost) -> None:
    pretend(says(random.Random(3).randbytes(999)))
    (native.runtime_directory() / "2.sock").touch()
    (native.runtime_directory() / "x.sock").touch()
    finder = hosts.Finder()
    for wanted in ([], ["host"], [str(host.pid)]):
        (found,) = finder.connect(wanted)
        with found:
            assert found.host.pid == host.pid
    with pytest.raises(HotreloadError, match="E-PROTOCOL"):
        finder.connect(["1"])
    host.close()
    with pytest.raises(HotreloadError, match="E-PROTOCOL"):
        finder.require()


def test_ps_and_watch_with_a_bad_neighbour(
    pretend: Callable[[Talk], Path], host: RealHost, module: Path, tmp_path: Path
) -> None:
    pretend(says(random.Random(4).randbytes(999)))
    command = [sys.executable, "-m", "hotreload"]
    done = subprocess.run([*command, "ps", "--json"], capture_output=True, text=True, timeout=LONG, check=False)
    assert done.returncode == 0, done.stderr
    assert str(host.pid) in done.stdout
    out = tmp_path / "out"
    out.mkdir()
    with subprocess.Popen([*command, "watch", str(out), "--json"], stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout
        assert json.loads(watch.stdout.readline())["event"] == "attach"
        (out / "m.so").write_bytes(module.read_bytes())
        (out / "m.so").chmod(0o755)
        events = [json.loads(watch.stdout.readline())["event"] for _ in range(2)]
        watch.terminate()
    assert events == ["candidate", "swap"]
    assert host.call() == 7


# ---- the host against tools ----


def is_well(host: RealHost) -> bool:
    """It serves others, and its own work goes on."""
    with Link(host.socket):
        return host.call() == 1


def test_a_host_survives_random_bytes(host: RealHost) -> None:
    chance = random.Random(5)
    for number in range(150):
        with host.connect() as raw:
            data = chance.randbytes(chance.choice((1, 15, 16, 17, 100, 5000)))
            if number % 2:  # past the first check
                data = struct.pack("=IHHII", lib.HR_WIRE_MAGIC, 1, chance.randrange(300), len(data), 0) + data
            raw.sendall(data)
            with suppress(ConnectionError):  # it has hung up already
                if number % 3:
                    raw.shutdown(socket.SHUT_WR)
                    raw.recv(100)
    assert is_well(host)


@pytest.mark.parametrize("length", [0xFFFFFFFF, 0x80000000, lib.HR_WIRE_LENGTH_MAX, 70_000])
def test_a_host_refuses_huge_lengths(host: RealHost, length: int) -> None:
    with host.connect() as raw:
        raw.sendall(struct.pack("=IHHII", lib.HR_WIRE_MAGIC, 1, native.LOAD, length, 0))
        assert raw.recv(100) == b"", "hung up at once, without waiting for more"
    assert is_well(host)


@pytest.mark.parametrize("kind", [native.LOAD, native.PREPARE, native.ROLLBACK, native.COMMIT, 99, 0xFFFF])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 128, 1032, 1033])
def test_a_host_answers_requests_of_odd_sizes(host: RealHost, kind: int, size: int) -> None:
    with host.connect() as raw:
        raw.sendall(struct.pack("=IHHII", lib.HR_WIRE_MAGIC, 1, kind & 0x7FFF, size, 3) + b"\xff" * size)
        head = exactly(raw, native.HEADER_SIZE)
        answered, length, number = native.parse_header(head)
        reply = native.parse_reply(exactly(raw, length))
    assert number == 3 and answered == kind & 0x7FFF & ~lib.HR_MSG_REPLY
    assert reply.failure and reply.failure.code in {"E-PROTOCOL", "E-NO-PREVIOUS"} and reply.failure.reason


def test_a_host_tells_tools_of_another_version(host: RealHost) -> None:
    with host.connect() as raw:
        raw.sendall(struct.pack("=IHHII", lib.HR_WIRE_MAGIC, 9, native.HELLO, 0, 3))
        _, length, _ = native.parse_header(exactly(raw, native.HEADER_SIZE))
        reply = native.parse_reply(exactly(raw, length))
    assert reply.failure and "version 9" in reply.failure.reason
    assert is_well(host)


def test_half_requests_of_many_tools(host: RealHost, module: Path) -> None:
    whole = native.message(native.LOAD, native.paths_body([str(module)]), 1)
    with ExitStack() as stack:
        held = [stack.enter_context(host.connect()) for _ in range(25)]
        for number, raw in enumerate(held):
            raw.sendall(whole[: number * 40])
        assert is_well(host), "those that wait hold nobody up"
        held[7].sendall(whole[7 * 40 :])
        _, length, _ = native.parse_header(exactly(held[7], native.HEADER_SIZE))
        assert native.parse_reply(exactly(held[7], length)).code == "ok"
    assert host.call() == 7


def test_more_tools_than_a_host_takes(host: RealHost) -> None:
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(host.connect())
        with pytest.raises(NoHost):
            Link(host.socket)
        assert host.call() == 1
    for _ in range(1000):  # the host closes the others one after the other
        try:
            assert is_well(host)
            break
        except NoHost:
            continue
    else:
        pytest.fail("their places were never given back")


def test_a_tool_that_stops_reading(host: RealHost) -> None:
    """The host gives up on it and serves others: it hangs up after a few seconds of a full buffer."""
    with host.connect() as raw:
        raw.settimeout(0)
        request = struct.pack("=IHHII", lib.HR_WIRE_MAGIC, 1, lib.HR_MSG_STATUS, 0, 0)
        # Until it has stopped reading too: it waits for us.
        while select.select([], [raw], [], 0.5)[1]:
            raw.send(request * 64)
        assert is_well(host)
