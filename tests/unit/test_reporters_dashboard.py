"""The dashboard's thread without a terminal: it starts, stops and fails without leaving anything behind."""

from __future__ import annotations

import io
import os
import queue
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

import pytest
from rich.console import Console
from scenes import HOST, REJECTED, rejected, synth, utc

from hotreload.reporters import dashboard
from hotreload.reporters.dashboard import Dashboard
from hotreload.session import Command, Quit, TogglePause

PATIENCE = 60.0


@pytest.fixture(autouse=True)
def _utc() -> Iterator[None]:
    with utc():
        yield


class Output(io.StringIO):
    """Tells when a text has been written."""

    def __init__(self, awaited: str) -> None:
        super().__init__()
        self.awaited = awaited
        self.seen = threading.Event()

    def write(self, text: str) -> int:
        written = super().write(text)
        if self.awaited in text:
            self.seen.set()
        return written


def shown(output: io.StringIO, keys: int | None = None) -> tuple[Dashboard, queue.SimpleQueue[Command]]:
    commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
    console = Console(file=output, force_terminal=True, width=100, height=30, color_system="256")
    return Dashboard(console, keys, commands.put), commands


def test_it_draws_what_it_is_told_and_leaves_the_screen() -> None:
    output = Output("E-ABI")
    board, _ = shown(output)
    board.update(rejected(), {HOST.pid: synth()})
    board.record(REJECTED)
    board.start()
    assert output.seen.wait(PATIENCE)
    board.close()
    board.close()
    text = output.getvalue()
    assert text.startswith("\x1b[?1049h") and text.endswith("\x1b[?1049l") and text.count("\x1b[?1049l") == 1


def test_it_may_be_closed_before_it_began() -> None:
    output = io.StringIO()
    shown(output)[0].close()
    assert output.getvalue() == ""


def test_keys_may_come_from_a_pipe_and_its_end_is_the_end() -> None:
    read, write = os.pipe()
    board, commands = shown(io.StringIO(), read)
    board.start()
    os.write(write, b"p")
    assert commands.get(timeout=PATIENCE) == TogglePause()
    os.close(write)
    assert commands.get(timeout=PATIENCE) == Quit() and board.broken
    board.close()
    os.close(read)


def test_a_sequence_whose_rest_is_late_is_still_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often the screen is drawn in the meantime."""
    monkeypatch.setattr(dashboard, "_SEQUENCE_SECONDS", 3600.0)
    monkeypatch.setattr(dashboard, "FRAME_SECONDS", 0.001)
    pressed: queue.SimpleQueue[str] = queue.SimpleQueue()
    monkeypatch.setattr(dashboard, "press", lambda ui, name, *_: (pressed.put(name), (ui, None))[1])
    read, write = os.pipe()
    board, _ = shown(io.StringIO(), read)
    board.start()
    os.write(write, b"\x1b[")
    for _ in range(20):  # four times as long as an Escape byte alone waits for company
        time.sleep(dashboard._ESCAPE_SECONDS / 5)
        board.update(rejected(), {})
    os.write(write, b"A")
    assert pressed.get(timeout=PATIENCE) == "up"
    os.write(write, b"\x1b")
    assert pressed.get(timeout=PATIENCE) == "esc"
    board.close()
    os.close(read)
    os.close(write)


def test_an_output_that_fails_ends_the_session_once() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    board, commands = shown(Broken())
    board.start()
    assert commands.get(timeout=PATIENCE) == Quit()
    board.close()
    assert board.broken and commands.empty()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_in_drawing_gives_the_terminal_back_and_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(dashboard, "render", fail)
    output = Output("\x1b[?1049l")
    board, commands = shown(output)
    board.start()
    assert commands.get(timeout=PATIENCE) == Quit()
    assert output.seen.is_set()
    board.close()


def test_a_handler_of_resizes_is_called_and_put_back() -> None:
    called: list[int] = []

    def mine(number: int, frame: FrameType | None) -> None:
        called.append(number)

    before = signal.signal(signal.SIGWINCH, mine)
    try:
        board, _ = shown(io.StringIO())
        board.start()
        signal.raise_signal(signal.SIGWINCH)
        assert called == [signal.SIGWINCH]
        board.close()
        assert signal.getsignal(signal.SIGWINCH) is mine
        # Taken over by somebody else in the meantime, it is theirs.
        board, _ = shown(io.StringIO())
        board.start()
        signal.signal(signal.SIGWINCH, signal.SIG_IGN)
        board.close()
        assert signal.getsignal(signal.SIGWINCH) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGWINCH, before)


def test_another_thread_than_the_main_one_may_start_it() -> None:
    before = signal.getsignal(signal.SIGWINCH)
    output = Output("rejected")
    board, _ = shown(output)
    starter = threading.Thread(target=board.start)
    starter.start()
    starter.join()
    board.update(rejected(), {HOST.pid: synth()})
    assert output.seen.wait(PATIENCE)
    assert signal.getsignal(signal.SIGWINCH) is before
    board.close()
