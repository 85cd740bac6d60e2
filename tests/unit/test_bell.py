"""The bell that wakes a thread which waits in poll."""

from __future__ import annotations

import os
import select

from hotreload.bell import Bell


def rung(bell: Bell) -> bool:
    return bool(select.select([bell], [], [], 0)[0])


def test_it_rings_until_it_is_hushed() -> None:
    bell = Bell()
    assert not rung(bell)
    bell.ring()
    bell.ring()
    assert rung(bell)
    bell.hush()
    assert not rung(bell)
    bell.hush()
    bell.close()


def test_after_its_end_it_writes_to_nobody() -> None:
    bell = Bell()
    number = bell.fileno()
    reader, writer = os.pipe()
    bell.close()
    moved = os.dup2(writer, number, inheritable=False)
    try:
        bell.ring()
        bell.hush()
        bell.close()
        assert bell.fileno() == -1
        assert not select.select([reader], [], [], 0)[0]
        os.fstat(moved)  # still open
    finally:
        for fd in {reader, writer, moved}:
            os.close(fd)
