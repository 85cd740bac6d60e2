"""Wakes a thread that waits in ``poll``: one thread waits for its bell beside its files, the others ring it."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock


class Bell:
    """Rings from any thread, at any time: after `close` it does nothing, and never writes to a descriptor that has
    become somebody else's.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """The descriptor to wait for, readable once the bell has rung; -1 after `close`."""
        return self._fd

    def ring(self) -> None:
        """Ends the wait under way, or the next one."""
        with self._lock:
            if self._fd >= 0:
                os.eventfd_write(self._fd, 1)

    def hush(self) -> None:
        """Takes the ringing so far back; called by the thread that waits, before it looks at what it was rung for."""
        with self._lock:
            if self._fd >= 0:
                with suppress(BlockingIOError):  # it had not rung
                    os.eventfd_read(self._fd)

    def close(self) -> None:
        """Ends it. May be called twice."""
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
            self._fd = -1
