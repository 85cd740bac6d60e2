"""What to do with an output whose reader has gone."""

from __future__ import annotations

import os
from typing import TextIO


def silence(stream: TextIO) -> None:
    """Point a broken stream at the null device.

    Text that it still buffers would otherwise fail once more at exit and print "Exception ignored ... BrokenPipeError".
    Closing it was rejected: standard output belongs to the whole program, and its other writers expect it open.
    """
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, stream.fileno())
        finally:
            os.close(null)
    except (OSError, ValueError):
        pass  # not a file (a StringIO), or already closed: nothing will be flushed at exit
