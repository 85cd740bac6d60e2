"""What the integration tests drive from outside: the command line, C hosts and modules, each as a process or file of
its own.

A `Bench` is one user's world: directories for sockets, staged copies and build outputs, the programs that were started
in it, and the modules built for it. Nothing here imports the package under test.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbuild
from conftest import INCLUDE, MODULE_FLAGS, ROOT, compile_to
from jsonschema import Draft202012Validator

HERE = Path(__file__).resolve().parent
PATIENCE_SECONDS = 60.0
"""After which something that has not happened counts as never happening. Nothing waits that long when all is well."""
LIBRARIES = ("-lpthread", "-ldl")
EVENT_COMMANDS = ("load", "rollback", "events")
"""Whose ``--json`` prints events, one a line; `watch` beside them."""

Json = dict[str, Any]


def build_host(directory: Path, cc: str, source: str = "host.c") -> Path:
    """Compiles a host and the shim's sources into one program."""
    command: list[str | Path] = [cc, "-std=c11", "-O1", "-g", "-I", INCLUDE, "-I", HERE, HERE / source]
    command += [cbuild.build_shim(directory / "shim").archive, *LIBRARIES, "-Wl,--export-dynamic-symbol=shared_lock"]
    return compile_to(directory / Path(source).stem, command)


def module_source(name: str, version: int, slots: Mapping[str, str], *, on_load: str = "", extra: str = "") -> str:
    """C source of a module for `host.c`.

    Args:
        name: Its name.
        version: Its version.
        slots: For each symbol the value that its function returns, as a C expression.
        on_load: The body of ``on_load``, which sees ``host_state *state``; empty for none.
        extra: Further definitions, placed before all functions.
    """
    parts = ["#include <hotreload/patch.h>", '#include "state.h"', extra]
    for number, value in enumerate(slots.values()):
        parts.append(
            f"static int32_t entry_{number}(void *state, const void *input, void *output) {{\n"
            f"    (void)input, (void)output;\n    ((host_state *)state)->count++;\n    return {value};\n}}"
        )
    if on_load:
        parts.append(f"static int32_t hook(void *opaque) {{ host_state *state = opaque; (void)state; {on_load} }}")
    patches = ", ".join(f'HR_PATCH("{symbol}", entry_{number})' for number, symbol in enumerate(slots))
    parts.append(f'HR_MODULE_WITH_HOOKS("{name}", {version}, {"hook" if on_load else 0}, 0, {patches})')
    return "\n".join(parts) + "\n"


class Output:
    """The lines of a program's output, read by a thread as they come. ``beside`` is shown where one never came: it may
    say why."""

    def __init__(self, stream: Any, beside: Output | None = None) -> None:
        self.lines: list[str] = []
        self._beside = beside
        self._ended = False
        self._news = threading.Condition()
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream as stream:
            for line in stream:
                with self._news:
                    self.lines.append(line.rstrip("\n"))
                    self._news.notify_all()
        with self._news:
            self._ended = True
            self._news.notify_all()

    def find(self, wanted: Callable[[str], object], start: int = 0, patience: float = PATIENCE_SECONDS) -> int:
        """Waits for a line from number ``start`` on; returns its number."""
        deadline = time.monotonic() + patience
        with self._news:
            at = start
            while True:
                while at < len(self.lines):
                    if wanted(self.lines[at]):
                        return at
                    at += 1
                if self._ended or not self._news.wait(deadline - time.monotonic()):
                    how = "ended" if self._ended else "is silent"
                    shown = "\n".join(self.lines[max(0, start - 3) :][-60:])
                    errors = "\n".join(["\nand beside it:", *self._beside.lines[-60:]]) if self._beside else ""
                    raise AssertionError(f"what was awaited never came, the output {how}:\n{shown}{errors}")

    def end(self) -> list[str]:
        """Waits for the end of the output; all of its lines."""
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive(), "the output has not ended"
        return self.lines


class Process:
    """A running program, with its standard output and error as `Output`."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], cwd: Path) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
            cwd=cwd,
        )
        self.errors = Output(self.process.stderr)
        self.output = Output(self.process.stdout, self.errors)
        self.pid = self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> int:
        """Waits for its end; its exit code, minus the signal's number when it was killed."""
        return self.process.wait(PATIENCE_SECONDS)

    def kill(self) -> None:
        """Ends it as ``kill -9`` does."""
        self.process.kill()
        self.wait()
        self.output.end()

    def interrupt(self) -> int:
        """Ctrl-C; its exit code."""
        self.process.send_signal(signal.SIGINT)
        return self.wait()


@dataclass(frozen=True)
class Tick:
    """One line of a host: its counters, and what each slot returned."""

    ticks: int
    count: int
    values: Mapping[str, int]


def parse_tick(line: str) -> Tick | None:
    """The tick that a host's line tells; None for another line."""
    match = re.fullmatch(r"ticks=(\d+) count=(\d+) (.*)", line)
    if match is None:
        return None
    values = (pair.rsplit("=", 1) for pair in match[3].split())
    return Tick(int(match[1]), int(match[2]), {symbol: int(value) for symbol, value in values})


class HostProgram(Process):
    """A running host.c."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], cwd: Path) -> None:
        super().__init__(command, environment, cwd)
        self.name = str(command[1])
        self.output.find(lambda line: line.startswith("ready "))

    def ticks(self, start: int = 0) -> list[Tick]:
        """All ticks that were told from line ``start`` on."""
        return [found for line in self.output.lines[start:] if (found := parse_tick(line))]

    def runs(self, **values: int) -> None:
        """Waits until the slots return these values; dots in symbols are written as ``__``."""
        wanted = {symbol.replace("__", "."): value for symbol, value in values.items()}

        def good(line: str) -> bool:
            found = parse_tick(line)
            return found is not None and all(found.values[symbol] == value for symbol, value in wanted.items())

        self.output.find(good, max(0, len(self.output.lines) - 1))

    def now(self) -> Tick:
        """A tick that began after this call."""
        start = len(self.output.lines)
        # The first line may have been under way when we were called.
        at = self.output.find(lambda line: parse_tick(line) is not None, start)
        at = self.output.find(lambda line: parse_tick(line) is not None, at + 1)
        found = parse_tick(self.output.lines[at])
        assert found is not None
        return found

    def check_state(self) -> Tick:
        """Asserts that it still runs and that not one call or count was lost in its whole life; a tick of now."""
        now = self.now()
        assert self.alive
        told = self.ticks()
        for each in told:
            assert each.count == each.ticks * len(each.values), each
        assert all(first.ticks < second.ticks for first, second in itertools.pairwise(told))
        return now

    def history(self, symbol: str) -> list[int]:
        """The different values that a slot has returned, in their order."""
        return [value for value, _ in itertools.groupby(each.values[symbol] for each in self.ticks())]


class Watch(Process):
    """A running command that tells events (``hotreload watch``), as JSON lines unless plain ones were asked for."""

    def check_schema(self) -> None:
        """Asserts that every JSON line keeps to the published schema, and has no key that it does not describe."""
        for line in self.output.lines:
            if line.startswith("{") and line.endswith("}"):  # a killed watcher's last line may be cut
                check_event(json.loads(line))

    def events(self, kind: str = "", **fields: Any) -> list[Json]:
        """The events so far, or those of one kind whose fields have these values; ``module``, ``version`` and ``path``
        are the module's, ``pid`` the host's."""
        return [event for line in self.output.lines if matches(event := json.loads(line), kind, fields)]

    def event(self, kind: str, times: int = 1, **fields: Any) -> Json:
        """Waits for the n-th event of a kind (see `events`) since the start; returns it."""
        at = -1
        for _ in range(times):
            at = self.output.find(lambda line: matches(json.loads(line), kind, fields), at + 1)
        found: Json = json.loads(self.output.lines[at])
        return found

    def says(self, text: str, start: int = 0, patience: float = PATIENCE_SECONDS) -> int:
        """Waits for a plain line that contains ``text``; its number."""
        return self.output.find(lambda line: text in line, start, patience)


@functools.cache
def event_schema() -> Any:
    """A validator of the published schema that also refuses keys which the schema does not describe."""
    schema = json.loads((ROOT / "hotreload" / "schema" / "event.json").read_text(encoding="utf-8"))
    Draft202012Validator.check_schema(schema)
    strict(schema)
    return Draft202012Validator(schema)


@functools.cache
def answer_schemas() -> dict[str, Any]:
    """By command a validator of the published schema of what it prints with ``--json``, and of ``error``; as strict."""
    whole = json.loads((ROOT / "hotreload" / "schema" / "answers.json").read_text(encoding="utf-8"))
    parts = whole["$defs"]
    found = {}
    for name in parts.keys() - {"side"}:
        schema = {**parts[name], "$defs": {"side": parts["side"]}}
        Draft202012Validator.check_schema(schema)
        strict(schema)
        found[name] = Draft202012Validator(schema)
    return found


def check_answer(name: str, answer: Json | list[Json]) -> None:
    """Asserts that an answer keeps to the published schema (hotreload/schema/answers.json)."""
    faults = [f"{fault.json_path}: {fault.message}" for fault in answer_schemas()[name].iter_errors(answer)]
    assert not faults, f"{answer} is not what the schema says: {faults}"


def strict(schema: Any) -> None:
    """Closes every object of a schema that names its properties."""
    for value in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        strict(value)
    if isinstance(schema, dict) and isinstance(schema.get("properties"), dict):
        schema["additionalProperties"] = False


def check_event(event: Json) -> None:
    """Asserts that an event keeps to the published schema (hotreload/schema/event.json)."""
    faults = [f"{fault.json_path}: {fault.message}" for fault in event_schema().iter_errors(event)]
    assert not faults, f"{event} is not what the schema says: {faults}"


def matches(event: Json, kind: str, fields: Mapping[str, Any]) -> bool:
    """Whether an event is of a kind (any if empty) and has these fields."""
    found = {
        **event,
        "pid": event.get("host", {}).get("pid"),
        "module": event.get("module", {}).get("name"),
        "version": event.get("module", {}).get("version"),
        "path": event.get("module", {}).get("path"),
    }
    return (not kind or event["event"] == kind) and all(found.get(name) == value for name, value in fields.items())


@dataclass(frozen=True)
class Done:
    """What a command that has ended said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> list[Json]:
        """Its standard output as one object a line."""
        return [json.loads(line) for line in self.out.splitlines()]


@dataclass
class Bench:
    """One user's world. ``home`` has a short name: a socket's path holds 107 bytes at most."""

    home: Path
    work: Path
    cc: str
    host_program: Path
    started: list[Process] = field(default_factory=list)
    host_environment: dict[str, str] = field(default_factory=dict)
    """Further environment of every host."""

    def __post_init__(self) -> None:
        self.run = self.home / "run"
        self.state = self.home / "state"
        self.out = self.work / "out"
        for each in (self.run, self.state, self.out):
            each.mkdir(mode=0o700, exist_ok=True)

    @property
    def sockets(self) -> Path:
        return self.run / "hotreload"

    def environment(self, **more: str) -> dict[str, str]:
        """Of programs: our directories, no terminal, this checkout's package."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("HOTRELOAD")}
        return {
            **inherited,
            "XDG_RUNTIME_DIR": str(self.run),
            "XDG_STATE_HOME": str(self.state),
            "NO_COLOR": "1",
            **more,
        }

    def stop(self) -> None:
        """Ends whatever still runs."""
        for each in self.started:
            if isinstance(each, Watch) and each.alive:  # a killed one would leave its host
                each.process.send_signal(signal.SIGINT)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    each.process.wait(10)
        for each in self.started:
            if each.alive:
                each.kill()
            each.output.end()
            each.errors.end()
        for each in self.started:
            if isinstance(each, Watch):
                each.check_schema()

    # ---- programs ----

    def host(self, name: str = "game", *symbols: str, **more: str) -> HostProgram:
        """Starts a host with these slots (``a`` without any); ``more`` is its further environment."""
        command: list[str | Path] = [self.host_program, name, *(symbols or ("a",))]
        started = HostProgram(command, self.environment(**{**self.host_environment, **more}), self.work)
        self.started.append(started)
        return started

    def command(self, *arguments: str | Path) -> list[str]:
        """A hotreload command line."""
        return [sys.executable, "-m", "hotreload", *map(str, arguments)]

    def watch(self, *arguments: str | Path, paths: Sequence[Path] = (), **more: str) -> Watch:
        """Starts ``hotreload watch`` on these paths, or on the output directory."""
        kind = [] if "--plain" in arguments else ["--json"]
        command = self.command("watch", *kind, *(paths or [self.out]), *arguments)
        # What a process that runs for days leaves open shows on standard error.
        started = Watch(command, self.environment(**{"PYTHONWARNINGS": "error", **more}), self.work)
        self.started.append(started)
        return started

    def follow(self, *arguments: str | Path, **more: str) -> Watch:
        """Starts ``hotreload events --follow --json``."""
        command = self.command("events", "--follow", "--json", *arguments)
        started = Watch(command, self.environment(**{"PYTHONWARNINGS": "error", **more}), self.work)
        self.started.append(started)
        return started

    def dev(self, project: Path, *arguments: str | Path, **more: str) -> Watch:
        """Starts ``hotreload dev`` in a project."""
        environment = self.environment(**{"PYTHONWARNINGS": "error", "XDG_CONFIG_HOME": str(self.home), **more})
        started = Watch(self.command("dev", *arguments), environment, project)
        self.started.append(started)
        return started

    def call(self, *arguments: str | Path, cwd: Path | None = None, **more: str) -> Done:
        """Runs a hotreload command to its end, in the directory of work or another."""
        done = subprocess.run(
            self.command(*arguments),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=self.environment(**more),
            cwd=cwd or self.work,
            timeout=PATIENCE_SECONDS * 2,
            check=False,
        )
        answer = Done(done.returncode, done.stdout, done.stderr)
        if arguments[0] in EVENT_COMMANDS and "--json" in arguments:
            for event in answer.json:
                check_event(event)
        return answer

    def slots(self, host: HostProgram | None = None) -> list[Json]:
        """The one host's slots as `hotreload slots --json` tells them."""
        chosen = ["--host", str(host.pid)] if host else []
        found = json.loads(self.call("slots", "--json", *chosen).out)
        assert len(found) == 1
        slots: list[Json] = found[0]["slots"]
        return slots

    # ---- modules ----

    def source(self, version: int, name: str = "m", text: str = "", **options: Any) -> Path:
        """Writes a module's source; its slot is ``a`` and returns the version unless ``slots`` says otherwise."""
        source = self.work / "sources" / f"{name}-{version}.c"
        source.parent.mkdir(exist_ok=True)
        options.setdefault("slots", {"a": str(version)})
        source.write_text(text or module_source(name, version, **options), encoding="utf-8")
        return source

    def compile_command(self, source: Path, output: Path) -> list[str | Path]:
        """What a build runs to make a module straight at ``output``."""
        return [self.cc, *MODULE_FLAGS, "-I", INCLUDE, "-I", HERE, source, "-o", output]

    def link(self, source: Path, output: Path, *flags: str) -> Path:
        """Runs that build now, with further flags."""
        return compile_to(output, [self.cc, *MODULE_FLAGS, "-I", INCLUDE, "-I", HERE, *flags, source])

    def module(self, version: int, name: str = "m", *, flags: Sequence[str] = (), **options: Any) -> Path:
        """Builds a module aside, where nobody watches."""
        output = self.work / "aside" / f"{name}-{version}.so"
        return self.link(self.source(version, name, **options), output, *flags)

    def put(self, module: Path, name: str = "m.so", directory: Path | None = None, mode: int = 0o755) -> Path:
        """Moves a copy of a module over a watched output, in one step."""
        target = (directory or self.out) / name
        scratch = self.work / f"scratch-{name}"
        shutil.copyfile(module, scratch)
        scratch.chmod(mode)
        return scratch.replace(target)

    # ---- what is left behind ----

    def leftovers(self) -> list[str]:
        """All files and directories in the directories of sockets and of staged copies, by their relative names. The
        history is meant to stay."""
        roots = (self.sockets, self.state / "hotreload")
        found = (str(path.relative_to(root)) for root in roots if root.is_dir() for path in root.iterdir())
        return sorted(name for name in found if name != "history")


@contextlib.contextmanager
def bench_in(home: Path, work: Path, cc: str, host_program: Path) -> Iterator[Bench]:
    """A bench, and the end of everything that was started on it."""
    bench = Bench(home, work, cc, host_program)
    try:
        yield bench
    finally:
        bench.stop()
        shutil.rmtree(home, ignore_errors=True)


# ---- mutations of real modules ----

SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")


def manifest_offset(data: bytes) -> int:
    """Where HOTPATCH_MODULE_V1 lies in a module's file, found by its own magic: it is 8-byte aligned and unique."""
    found = [at for at in range(0, len(data) - 56, 8) if data[at : at + 8] == struct.pack("<IHH", 0x48505431, 1, 56)]
    assert len(found) == 1, "the fixture's module has one manifest"
    return found[0]


def patched(data: bytes, at: int, new: bytes) -> bytes:
    """The bytes with some of them replaced."""
    assert data[at : at + len(new)] != new, "the mutation changes something"
    return data[:at] + new + data[at + len(new) :]
