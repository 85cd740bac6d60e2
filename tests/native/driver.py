"""Drives the C programs of hosts/: a host that obeys, a viewer of its black box, and a client of its socket."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

# wire.h
MAGIC, VERSION = 0x48525731, 1
HELLO, LOAD, PREPARE, COMMIT, ABORT, ROLLBACK, STATUS, REPLY = 1, 2, 3, 4, 5, 6, 7, 128
POLL, SAFE_POINT = 1, 2
MESSAGE = struct.Struct("=IHHII")
REPLY_HEAD = struct.Struct("=iI")
REPORT_HEAD = struct.Struct("=IiQ128sQ")
FAILURE_SIZE = 8 + 4 * 512
PATH_SIZE = 1024

WAIT_S = 60.0

Json = dict[str, Any]


class Program:
    """A child that answers each line on its standard input with one JSON line on its standard output."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], user: int | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
            user=user,
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def send(self, line: str) -> None:
        """Sends one command without waiting for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def receive(self) -> Any:
        """The next answer. Fails with what the program said last when it has ended instead."""
        assert self.process.stdout is not None and self.process.stderr is not None
        line = self.process.stdout.readline()
        if not line:
            code = self.process.wait(WAIT_S)
            raise AssertionError(f"the program ended with {code}: {self.process.stderr.read()}")
        return json.loads(line)

    def ask(self, line: str) -> Any:
        """Sends one command and returns its answer."""
        self.send(line)
        return self.receive()

    def end(self) -> int:
        """Closes its input, which ends it in order; returns its exit status (negative: the signal that killed it)."""
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it is dead already; that is what some tests want to see
            self.process.stdin.close()
        return self.process.wait(WAIT_S)

    def kill(self) -> None:
        """Kills it, as ``kill -9`` does."""
        self.process.kill()
        self.process.wait(WAIT_S)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(WAIT_S)
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()


@dataclass(frozen=True)
class Reply:
    """A host's answer: its status and that of each report."""

    status: int
    statuses: tuple[int, ...]
    modules: tuple[str, ...]


class Client:
    """A connection to a host's socket, speaking wire.h by hand so that tests can break off wherever they like."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(str(path))
        self.requests = 0

    def send(self, kind: int, body: bytes = b"") -> None:
        """Sends a request without waiting for its answer."""
        self.requests += 1
        self.socket.sendall(MESSAGE.pack(MAGIC, VERSION, kind, len(body), self.requests) + body)

    def receive(self) -> Reply:
        """The answer to the request sent last."""
        magic, _, kind, length, number = MESSAGE.unpack(self._exactly(MESSAGE.size))
        assert magic == MAGIC and kind & REPLY and number == self.requests
        body = self._exactly(length)
        status, count = REPLY_HEAD.unpack_from(body)
        at, statuses, modules = REPLY_HEAD.size + FAILURE_SIZE, [], []
        for _ in range(count):
            size, report_status, _, name, _ = REPORT_HEAD.unpack_from(body, at)
            statuses.append(report_status)
            modules.append(name.split(b"\0")[0].decode())
            at += size
        assert at == len(body)
        return Reply(status, tuple(statuses), tuple(modules))

    def request(self, kind: int, body: bytes = b"") -> Reply:
        """Sends a request and returns its answer."""
        self.send(kind, body)
        return self.receive()

    def close(self) -> None:
        """Breaks the connection off."""
        self.socket.close()

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("the host closed the connection")
            data += part
        return bytes(data)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def paths(*files: Path) -> bytes:
    """The body of a LOAD or PREPARE request."""
    body = struct.pack("=II", len(files), 0)
    return body + b"".join(str(file).encode().ljust(PATH_SIZE, b"\0") for file in files)


def rollback(module: str = "") -> bytes:
    """The body of a ROLLBACK request."""
    return module.encode().ljust(128, b"\0")
