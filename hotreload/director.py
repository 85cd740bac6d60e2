"""Runs the demo's script against a real session: feeds the play what happens, and performs the acts it asks for."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from hotreload import demo, session
from hotreload.demo import Play
from hotreload.errors import HotreloadError
from hotreload.model import EventKind, Record
from hotreload.workshop import Workshop

TICK_SECONDS = 0.05


class Director:
    """Owns the play on a thread of its own, so that neither the session nor the screen ever waits for it.

    Args:
        workshop: The example's scratch copy, built.
        pace: How much time to leave between the acts.
        log: Names the file with the host's output, or None while there is none; from any thread.
        send: Gives the session an event; from any thread.
    """

    def __init__(
        self,
        workshop: Workshop,
        pace: demo.Pace,
        log: Callable[[], Path | None],
        send: Callable[[session.Event], None],
    ) -> None:
        self._workshop = workshop
        self._send = send
        self._inbox: SimpleQueue[Record | None] = SimpleQueue()
        self._output = Follower(log)
        self._pid = 0
        self._thread = Thread(target=self._work, name="hotreload-demo", daemon=True)
        self._play, self._first = demo.begin(workshop.example, pace, time.monotonic())

    @property
    def play(self) -> Play:
        """How far the show is, or came."""
        return self._play

    def start(self) -> None:
        """Begins the show."""
        self._perform(self._first)
        self._thread.start()

    def observe(self, record: Record) -> None:
        """Takes a record of the session; from any thread, never blocks."""
        self._inbox.put(record)

    def stop(self) -> None:
        """Ends the show, finished or not."""
        self._inbox.put(None)
        self._thread.join()

    def _work(self) -> None:
        while True:
            try:
                news = self._inbox.get(timeout=TICK_SECONDS)
                if news is None:
                    return
                self._take(news)
            except Empty:
                pass
            for line in self._output.lines():
                self._advance(line)
            self._advance(None)

    def _take(self, news: Record) -> None:
        if news.kind is EventKind.ATTACH and news.host:
            self._pid = news.host.pid
        # What the host printed before this must not count as printed after it.
        for line in self._output.lines():
            self._advance(line)
        self._advance(news)

    def _advance(self, seen: Record | str | None) -> None:
        self._play, acts = demo.advance(self._play, seen, time.monotonic())
        self._perform(acts)

    def _perform(self, acts: tuple[demo.Act, ...]) -> None:
        for act in acts:
            try:
                self._perform_one(act)
            except (OSError, HotreloadError) as error:
                self._play, last = demo.give_up(self._play, str(error))
                self._perform(last)

    def _perform_one(self, act: demo.Act) -> None:
        if isinstance(act, demo.Narrate):
            self._send(session.Note(f"demo: {act.text}"))
        elif isinstance(act, demo.Write):
            self._workshop.write(act.edits)
        elif isinstance(act, demo.Cut):
            self._workshop.cut(act.share)
        elif isinstance(act, demo.TakeBack):
            self._send(session.RollBack(self._pid))
        else:
            self._send(session.Quit())


class Follower:
    """Reads the complete lines of a file that grows. ``path`` names it, or None while it is not known."""

    def __init__(self, path: Callable[[], Path | None]) -> None:
        self._path = path
        self._at = 0
        self._rest = b""

    def lines(self) -> list[str]:
        """The lines that have come since the last call, without their ends."""
        *whole, self._rest = (self._rest + self._read()).split(b"\n")
        return [line.decode("utf-8", "replace").rstrip("\r") for line in whole]

    def _read(self) -> bytes:
        path = self._path()
        if path is None:
            return b""
        try:
            with path.open("rb") as file:
                file.seek(self._at)
                data = file.read()
        except OSError:  # not there yet, or removed at the session's end
            return b""
        self._at += len(data)
        return data
