"""Follows running hosts from outside: which there are, and what happens in them, read out of their black boxes."""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from hotreload.errors import HotreloadError, NoHost
from hotreload.hosts import Finder, chosen
from hotreload.link import Link, is_stopped
from hotreload.model import EventKind, Record

AGAIN_SECONDS = 1.0
"""Between two attempts to reach a host whose socket does not answer."""


class Follower:
    """All running hosts, or those wanted by name or pid, and those that start later.

    One thread uses it. Hosts are approached on threads of their own: one that is stopped in a debugger holds up nobody.

    Args:
        wanted: Names or pids; empty for all.
        finder: Where hosts are looked for.
        trouble: Told once of each host that cannot be spoken with.
    """

    def __init__(
        self, wanted: Sequence[str] = (), finder: Finder | None = None, *, trouble: Callable[[str], None] | None = None
    ) -> None:
        self.links: dict[int, Link] = {}
        """The hosts attached, by pid."""
        self._wanted = wanted
        self._finder = finder or Finder()
        self._trouble = trouble or (lambda _: None)
        self._found: SimpleQueue[Link] = SimpleQueue()
        self._approached: dict[int, tuple[int, float]] = {}
        """For each pid its socket's inode, and when it may be approached again (``time.monotonic()``)."""

    @property
    def approaching(self) -> bool:
        """True while a host that was seen has neither answered nor failed."""
        return any(again == float("inf") and pid not in self.links for pid, (_, again) in self._approached.items())

    def look(self) -> list[Record]:
        """What has happened since the last call: hosts that came and went, and their events, oldest first."""
        self._approach_new()
        records = self._attach_found()
        for link in self.links.values():
            records += link.foreign_events()
        records += self._drop_gone()
        return sorted(records, key=lambda record: record.time)

    def wait(self, seconds: float) -> None:
        """Waits for a host's end, at most ``seconds``."""
        poll = select.poll()
        for link in self.links.values():
            poll.register(link.fileno(), select.POLLRDHUP)
        poll.poll(seconds * 1000)

    def close(self) -> None:
        """Ends all connections."""
        for link in self.links.values():
            link.close()
        self.links.clear()

    def _approach_new(self) -> None:
        for pid, path in self._finder.sockets().items():
            try:
                inode = path.stat().st_ino
            except OSError:
                continue
            known, again = self._approached.get(pid, (0, 0.0))
            if pid not in self.links and (known != inode or time.monotonic() >= again):
                self._approached[pid] = (inode, float("inf"))
                Thread(target=self._approach, args=(pid, inode, path), daemon=True).start()

    def _approach(self, pid: int, inode: int, path: Path) -> None:
        if is_stopped(pid):  # each attempt would wait in its socket until it goes on
            self._approached[pid] = (inode, time.monotonic() + AGAIN_SECONDS)
            return
        try:
            self._found.put(Link(path))
        except NoHost:  # a dead host's socket, or no answer yet
            self._approached[pid] = (inode, time.monotonic() + AGAIN_SECONDS)
        except HotreloadError as error:
            self._trouble(f"host {pid}: {error}")

    def _attach_found(self) -> list[Record]:
        records: list[Record] = []
        while True:
            try:
                link = self._found.get_nowait()
            except Empty:
                return records
            pid = link.host.pid
            if pid in self.links or not chosen(link.host.name, pid, self._wanted):
                link.close()
                continue
            link.rewind()
            self.links[pid] = link
            records.append(Record(EventKind.ATTACH, time.time(), link.host))

    def _drop_gone(self) -> list[Record]:
        records: list[Record] = []
        for pid, link in list(self.links.items()):
            if _hung_up(link):
                records += link.foreign_events()
                records.append(Record(EventKind.DETACH, time.time(), link.host, reason="the host has exited"))
                link.close()
                del self.links[pid]
                self._approached.pop(pid, None)
        return records


def _hung_up(link: Link) -> bool:
    poll = select.poll()
    poll.register(link.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))
