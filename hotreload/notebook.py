"""The IPython extension: ``%load_ext hotreload``, then ``%hotreload watch build`` in a notebook or a terminal.

The session that ``hotreload watch`` runs in a terminal runs here on a thread, with this process as its only host: the
same rules, the same checks. Every cell begins with the newest build, and tells what has happened since the last one.
"""

from __future__ import annotations

import atexit
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from hotreload import native
from hotreload.errors import HotreloadError
from hotreload.link import Link
from hotreload.model import EventKind, Host, Report
from hotreload.reporters.answers import print_reports, print_slots
from hotreload.reporters.notebook import NotebookReporter, Told, console
from hotreload.runner import Options, Runner
from hotreload.runtime import Runtime
from hotreload.session import Quit
from hotreload.typed import signature_header

WAIT_SECONDS = 2.0
"""How long a cell may wait for outputs that are being taken; nothing waits that long when all is well."""
END_SECONDS = 3.0
USAGE = """%hotreload watch PATH... [--build CMD]   swap every good build into this process
%hotreload status                         what runs in each slot
%hotreload load MODULE...                 load modules once
%hotreload rollback [MODULE]              take back the newest swap, or one module
%hotreload header SYMBOL [FILE]           the C header of a typed slot
%hotreload stop                           watch no more
"""

_KEY = "hotreload"


def load_ipython_extension(ipython: Any) -> None:
    """Called by ``%load_ext hotreload``."""
    notebook = Notebook(ipython)
    ipython.register_magic_function(notebook.magic, "line", _KEY)
    ipython.events.register("pre_run_cell", notebook.before_cell)
    _loaded[id(ipython)] = notebook


def unload_ipython_extension(ipython: Any) -> None:
    """Called by ``%unload_ext hotreload``. What runs in the slots stays."""
    notebook = _loaded.pop(id(ipython), None)
    if notebook is not None:
        ipython.events.unregister("pre_run_cell", notebook.before_cell)
        notebook.stop([])


_loaded: dict[int, Notebook] = {}


class Notebook:
    """``%hotreload`` in one IPython shell."""

    def __init__(self, ipython: Any) -> None:
        self._runtime = Runtime()
        self._watch: _Watch | None = None
        self._commands: dict[str, Callable[[list[str]], None]] = {
            "watch": self.watch,
            "status": self.status,
            "load": self.load,
            "rollback": self.rollback,
            "header": self.header,
            "stop": self.stop,
        }
        with suppress(HotreloadError):  # E-DUPLICATE: the program serves itself
            self._runtime.serve("jupyter" if hasattr(ipython, "kernel") else "ipython")

    def magic(self, line: str) -> None:
        """Runs one line ``%hotreload COMMAND ...``."""
        words = shlex.split(line)
        if not words:
            _write(USAGE)
            return
        try:
            self._command(words[0])(words[1:])
        except HotreloadError as error:
            raise import_module("IPython.core.error").UsageError(_shown(error)) from None

    def _command(self, name: str) -> Callable[[list[str]], None]:
        if name not in self._commands:
            close = get_close_matches(name, self._commands, n=1)
            fix = f"write %hotreload {close[0]}" if close else "%hotreload alone lists them"
            raise HotreloadError("E-USAGE", f"no such command {name!r}", expected=", ".join(self._commands), fix=fix)
        return self._commands[name]

    def before_cell(self, *_: object) -> None:
        """Brings what was built since the last cell in, and tells what has happened."""
        if self._watch is not None:
            _write(self._watch.news())

    def watch(self, words: list[str]) -> None:
        """``watch PATH... [--build CMD]``"""
        build = None
        if "--build" in words:
            at = words.index("--build")
            build = words[at + 1] if at + 1 < len(words) else None
            del words[at : at + 2]
        if not words or any(word.startswith("--") for word in words):
            raise HotreloadError("E-USAGE", "name directories of build outputs", expected=USAGE.splitlines()[0])
        self.stop([])
        self._watch = _Watch(tuple(map(Path, words)), build)
        _write(self._watch.news())

    def stop(self, words: list[str]) -> None:
        """``stop``"""
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def status(self, words: list[str]) -> None:
        """``status``"""
        with Link(native.runtime_directory() / f"{os.getpid()}.sock") as link:
            print_slots([link.snapshot(time.monotonic())], console())

    def load(self, words: list[str]) -> None:
        """``load MODULE...``"""
        self._print(self._telling(lambda: self._runtime.load_modules(list(words))), EventKind.SWAP)

    def rollback(self, words: list[str]) -> None:
        """``rollback [MODULE]``"""
        self._print(self._telling(lambda: self._runtime.rollback(words[0] if words else None)), EventKind.ROLLBACK)

    def header(self, words: list[str]) -> None:
        """``header SYMBOL [FILE]``"""
        if not words:
            raise HotreloadError("E-USAGE", "name a typed slot", found="none", expected=USAGE.splitlines()[4])
        text = signature_header(words[0])
        if len(words) > 1:
            Path(words[1]).write_text(text, encoding="utf-8")
        else:
            _write(text)

    def _telling(self, act: Callable[[], tuple[Report, ...]]) -> tuple[Report, ...]:
        """Does what this cell tells by itself; the session, which sees it in the host, is not to repeat it."""
        began, code = time.time(), ""
        reports: tuple[Report, ...] = ()
        try:
            reports = act()
        except HotreloadError as error:
            code = error.code
            raise
        finally:
            if self._watch is not None:
                self._watch.told(Told(began, time.time(), frozenset(each.module.content for each in reports), code))
        return reports

    def _print(self, reports: Sequence[Report], done: EventKind) -> None:
        host = Host(os.getpid(), "this process")
        print_reports([(host, report) for report in reports], console(), done)


class _Watch:
    """A session on a thread of its own, for this process alone."""

    def __init__(self, paths: tuple[Path, ...], build: str | None) -> None:
        self._reporter = NotebookReporter()
        options = Options(paths=paths, hosts=(str(os.getpid()),), build=build)
        self._runner = Runner(options, lambda _: self._reporter)
        self._thread = Thread(target=self._runner.run, name="hotreload-notebook", daemon=True)
        self._thread.start()
        atexit.register(self.stop)

    def news(self) -> str:
        """Waits for what is on disk, then tells what has happened since the last call."""
        if self._thread.is_alive():
            self._runner.wait(WAIT_SECONDS)
        return self._reporter.take()

    def told(self, told: Told) -> None:
        """Leaves something out of the news."""
        self._reporter.told(told)

    def stop(self) -> None:
        """Ends the session; what it brought in stays."""
        atexit.unregister(self.stop)
        self._runner.send(Quit())
        self._thread.join(END_SECONDS)


def _shown(error: HotreloadError) -> str:
    texts = (("found", error.found), ("expected", error.expected), ("fix", error.fix))
    return "; ".join([str(error), *(f"{name}: {text}" for name, text in texts if text)])


def _write(text: str) -> None:
    sys.stdout.write(text)
