"""The examples as a user builds and runs them, without a tool attached."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import shlex
import shutil
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest
from conftest import INCLUDE, ROOT, RequireTool

SHIM_SOURCES = sorted((ROOT / "shim" / "src").glob("*.c"))
C_EXAMPLES = {"counter-c": "counter.so", "flame": "flame.so"}
PATIENCE_SECONDS = 60.0
UTF8 = "C.UTF-8"


@dataclass(frozen=True)
class Shim:
    """Values for the examples' make variables."""

    cflags: str
    libs: str

    def variables(self) -> list[str]:
        return [f"HOTRELOAD_CFLAGS={self.cflags}", f"HOTRELOAD_LIBS={self.libs}"]


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory, cc: str) -> Shim:
    """The shim's sources, compiled once for all examples."""
    directory = tmp_path_factory.mktemp("shim")
    for source in SHIM_SOURCES:
        target = directory / f"{source.stem}.o"
        subprocess.run(
            [cc, "-std=c11", "-O2", "-fPIC", "-pthread", "-I", INCLUDE, "-c", source, "-o", target], check=True
        )
    objects = [str(path) for path in sorted(directory.glob("*.o"))]
    return Shim(f"{shlex.quote(f'-I{INCLUDE}')} -pthread", shlex.join([*objects, "-pthread", "-ldl"]))


def build(name: str, into: Path, *arguments: str) -> tuple[Path, str]:
    """Copies an example and makes it. Returns its directory and all that make and the compiler said."""
    directory = into / name
    shutil.copytree(ROOT / "examples" / name, directory, ignore=shutil.ignore_patterns("build"), dirs_exist_ok=True)
    command = ["make", "-s", "CFLAGS=-O2 -Werror", *arguments]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return directory, done.stdout + done.stderr


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory, shim: Shim, require_tool: RequireTool) -> Callable[[str], Path]:
    """Returns ``built(name)``: an example's directory, made once."""
    require_tool("make")
    directories: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in directories:
            directories[name], said = build(name, tmp_path_factory.mktemp("examples"), *shim.variables())
            assert said == "", "the examples build without a word"
        return directories[name]

    return get


def environment(runtime_home: Path, **more: str) -> dict[str, str]:
    """An environment in which hosts are found nowhere else, and which says nothing about colours."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLORTERM", "TERM")}
    return {**inherited, "XDG_RUNTIME_DIR": str(runtime_home), "LC_ALL": UTF8, **more}


@contextmanager
def running(command: list[str], env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A host whose standard output is a pipe; killed at the end if it still runs."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as host:
        try:
            yield host
        finally:
            host.kill()


def line(host: subprocess.Popen[str]) -> str:
    """The host's next line."""
    assert host.stdout is not None
    ready, _, _ = select.select([host.stdout], [], [], PATIENCE_SECONDS)
    assert ready, "the host is silent"
    return host.stdout.readline()


# ---- every example ----


@pytest.mark.parametrize(("name", "module"), C_EXAMPLES.items())
def test_module_exports_the_manifest_alone(name: str, module: str, built: Callable[[str], Path]) -> None:
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", built(name) / "build" / module], capture_output=True, text=True, check=True
    ).stdout.split()
    assert symbols[2::3] == ["HOTPATCH_MODULE_V1"]


@pytest.mark.parametrize(("name", "module"), C_EXAMPLES.items())
def test_module_is_linked_symbolically(name: str, module: str, built: Callable[[str], Path]) -> None:
    dynamic = subprocess.run(
        ["readelf", "-d", built(name) / "build" / module], capture_output=True, text=True, check=True
    ).stdout
    assert "SYMBOLIC" in dynamic


@pytest.mark.parametrize(("name", "module"), C_EXAMPLES.items())
def test_unchanged_source_builds_to_the_same_bytes(
    name: str, module: str, built: Callable[[str], Path], shim: Shim, tmp_path: Path
) -> None:
    """Or every rebuild would be a swap. At the same path, as a user rebuilds: debug information names it."""
    directory, _ = build(name, tmp_path, *shim.variables())
    first = (directory / "build" / module).read_bytes()
    (directory / "patch.c").touch()
    build(name, tmp_path, *shim.variables())
    assert (directory / "build" / module).read_bytes() == first


@pytest.mark.parametrize("name", C_EXAMPLES)
def test_off_build_needs_no_shim(name: str, tmp_path: Path, runtime_home: Path, require_tool: RequireTool) -> None:
    """What a shipping build does: hotreload compiled away, nothing of it linked."""
    require_tool("make")
    flags = f"HOTRELOAD_CFLAGS={shlex.quote(f'-I{INCLUDE}')} -DHOTRELOAD_OFF"
    directory, _ = build(name, tmp_path, flags, "HOTRELOAD_LIBS=")
    with running([str(directory / "build" / "host")], environment(runtime_home)) as host:
        assert re.match(r"(count|frames)=\d+ ", line(host))


def test_makefile_asks_the_command_for_its_flags(tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("make")
    # A stand-in for the command, to see that nothing else is consulted.
    ask = tmp_path / "ask"
    ask.write_text('#!/bin/sh\n[ "$1" = config ] && [ "$2" = --cflags ] && echo -Ifrom-the-command\necho -lasked\n')
    ask.chmod(0o755)
    for name in C_EXAMPLES:
        done = subprocess.run(
            ["make", "-n", "-C", ROOT / "examples" / name, f"HOTRELOAD={ask}", "-B"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.count("-Ifrom-the-command") == 2
        assert done.stdout.count("host.c") == 1


def test_makefile_says_what_is_missing(tmp_path: Path, require_tool: RequireTool) -> None:
    require_tool("make")
    for name in C_EXAMPLES:
        directory = tmp_path / name
        shutil.copytree(ROOT / "examples" / name, directory, ignore=shutil.ignore_patterns("build"))
        done = subprocess.run(
            ["make", f"HOTRELOAD={tmp_path / 'absent'}"], cwd=directory, capture_output=True, text=True, check=False
        )
        assert done.returncode != 0
        assert "hotreload not found: install hotreload-native" in done.stderr


# ---- counter-c ----


def test_counter_counts_and_stops_in_order(built: Callable[[str], Path], runtime_home: Path) -> None:
    with running([str(built("counter-c") / "build" / "host")], environment(runtime_home, HZ="200")) as host:
        assert [line(host) for _ in range(3)] == [f"count={n} step=+1\n" for n in (1, 2, 3)]
        sockets = list(runtime_home.rglob("*.sock"))
        assert len(sockets) == 1
        host.send_signal(signal.SIGINT)
        last = list(host.stdout or ())[-1]
        assert re.fullmatch(r"stopped after (\d+) ticks, count=\1\n", last)
        assert host.wait(PATIENCE_SECONDS) == 0
        assert not sockets[0].exists()


# ---- flame ----


class Terminal:
    """A program on a pseudo-terminal, and what its screen shows."""

    def __init__(self, command: list[str], env: dict[str, str], columns: int, rows: int) -> None:
        self.received = b""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        master, slave = pty.openpty()
        self._master = master
        self.before = termios.tcgetattr(slave)
        self.resize(columns, rows)
        self.process = subprocess.Popen(
            command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
        )
        self._slave = slave

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._screen.resize(rows, columns)

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def settings(self) -> list[object]:
        return list(termios.tcgetattr(self._slave))

    def read(self, seconds: float = 0.05) -> None:
        ready, _, _ = select.select([self._master], [], [], seconds)
        if ready:
            got = os.read(self._master, 1 << 16)
            self.received += got
            self._stream.feed(got)

    def until(self, true: Callable[[Terminal], bool], what: str) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not true(self):
            assert time.monotonic() < end, f"not seen: {what}\n" + "\n".join(self.lines())
            self.read()

    def lines(self) -> list[str]:
        return [text.rstrip() for text in self._screen.display]

    def bottom_with(self, character: str) -> int:
        """The lowest line (1 is the topmost) that has the character; 0 for none."""
        return max((number for number, text in enumerate(self.lines(), 1) if character in text), default=0)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)


@pytest.fixture
def flame(built: Callable[[str], Path], runtime_home: Path) -> Iterator[Callable[..., Terminal]]:
    """Returns ``flame(columns, rows, **environment)``: the flame host on a terminal."""
    terminals: list[Terminal] = []

    def start(columns: int = 80, rows: int = 24, **env: str) -> Terminal:
        command = [str(built("flame") / "build" / "host")]
        terminals.append(Terminal(command, environment(runtime_home, **env), columns, rows))
        return terminals[-1]

    yield start
    for terminal in terminals:
        terminal.close()


def test_flame_prints_a_line_a_second_into_a_pipe(built: Callable[[str], Path], runtime_home: Path) -> None:
    with running([str(built("flame") / "build" / "host")], environment(runtime_home)) as host:
        first, second = (re.match(r"frames=(\d+) fps=\d+ heat=\d+% sparks=0 \|.{40}\|$", line(host)) for _ in "12")
        assert first
        assert second
        assert int(first[1]) < int(second[1])
        host.send_signal(signal.SIGTERM)
        assert host.wait(PATIENCE_SECONDS) == 0


@pytest.mark.parametrize(
    ("env", "sequence"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, rb"\x1b\[38;2;\d+;\d+;\d+m"),
        ({"TERM": "xterm-256color"}, rb"\x1b\[38;5;\d+m"),
    ],
)
def test_flame_uses_the_colours_that_the_terminal_has(
    flame: Callable[..., Terminal], env: dict[str, str], sequence: bytes
) -> None:
    terminal = flame(**env)
    terminal.until(lambda seen: seen.lines()[-1].startswith(" flame  generation 0"), "the status line")
    assert re.search(sequence, terminal.received)
    assert terminal.lines()[0] == "▀" * 80


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"LC_ALL": "C"}])
def test_flame_without_colours_draws_with_ascii(flame: Callable[..., Terminal], env: dict[str, str]) -> None:
    terminal = flame(**{"TERM": "xterm-256color", "COLORTERM": "truecolor", **env})
    terminal.until(lambda seen: seen.lines()[-1].startswith(" flame  generation 0"), "the status line")
    assert re.search(r"[.,:;+*=-]", terminal.lines()[-2]), "embers at the bottom of the picture"
    assert terminal.received.isascii()
    assert not re.search(rb"\x1b\[[34]8;", terminal.received)


def test_flame_prints_lines_on_a_dumb_terminal(flame: Callable[..., Terminal]) -> None:
    terminal = flame(TERM="dumb", COLORTERM="truecolor")
    terminal.until(lambda seen: re.match(r"frames=\d+ fps=", seen.lines()[0]) is not None, "a line")
    assert b"\x1b" not in terminal.received


def test_flame_follows_a_resize(flame: Callable[..., Terminal]) -> None:
    terminal = flame(80, 24, TERM="xterm-256color")
    terminal.until(lambda seen: "q: quit" in seen.lines()[-1], "the status line")
    terminal.resize(50, 12)
    terminal.until(lambda seen: "q: quit" in seen.lines()[-1] and seen.bottom_with("▀") == 11, "11 lines of fire")
    terminal.resize(100, 30)
    terminal.until(lambda seen: "q: quit" in seen.lines()[-1] and seen.bottom_with("▀") == 29, "29 lines of fire")
    assert terminal.lines()[0] == "▀" * 100


ENDS: dict[str, tuple[Callable[[Terminal], None], int]] = {
    "q": (lambda terminal: terminal.type("q"), 0),
    "Ctrl-C": (lambda terminal: terminal.process.send_signal(signal.SIGINT), 0),
    "a crash": (lambda terminal: terminal.process.send_signal(signal.SIGSEGV), -signal.SIGSEGV),
}


@pytest.mark.parametrize("end", ENDS)
def test_flame_gives_the_terminal_back(flame: Callable[..., Terminal], end: str) -> None:
    terminal = flame(TERM="xterm-256color")
    terminal.until(lambda seen: "q: quit" in seen.lines()[-1], "the status line")
    assert b"\x1b[?25l" in terminal.received
    assert terminal.settings() != terminal.before
    act, code = ENDS[end]
    act(terminal)
    terminal.until(lambda seen: seen.process.poll() is not None, "its end")
    terminal.read()
    assert terminal.process.returncode == code
    left = terminal.received.rpartition(b"\x1b[?1049l")
    assert left[0].endswith(b"\x1b[?25h")
    assert b"\x1b[?25l" not in left[2]
    assert terminal.settings() == terminal.before


def stopped(terminal: Terminal) -> bool:
    """As a shell with job control learns of it."""
    return os.waitid(os.P_PID, terminal.process.pid, os.WSTOPPED | os.WNOHANG) is not None


def test_flame_gives_the_terminal_back_while_it_sleeps(flame: Callable[..., Terminal]) -> None:
    terminal = flame(TERM="xterm-256color")
    terminal.until(lambda seen: "q: quit" in seen.lines()[-1], "the status line")
    terminal.process.send_signal(signal.SIGTSTP)
    terminal.until(lambda seen: seen.received.endswith(b"\x1b[?1049l"), "the end of the alternate screen")
    assert terminal.settings() == terminal.before
    # It says goodbye to the screen before it stops: a SIGCONT in between would find nothing to continue.
    terminal.until(stopped, "its sleep")
    terminal.process.send_signal(signal.SIGCONT)
    terminal.until(lambda seen: seen.received.count(b"\x1b[?1049h") == 2, "the alternate screen again")
    terminal.type("q")
    terminal.until(lambda seen: seen.process.poll() == 0, "its end")
