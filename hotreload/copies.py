"""Copies of what hosts have accepted: a successor of a host is brought to them when the newest output is bad."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp

from hotreload import native
from hotreload.link import runs
from hotreload.model import OK, SAME, Report
from hotreload.session import ACCEPTED_KEPT, Outcome, Wanted

COPIES_KEPT = ACCEPTED_KEPT


class Copies:
    """Copies of what hosts have accepted: a successor of a host is brought to them when the newest output is bad.

    The hosts' own staged files end with their host. One directory a watcher, removed at its end; those of watchers
    that were killed are removed by the next one.
    """

    def __init__(self, base: Path | None = None) -> None:
        base = base or native.runtime_directory()
        for old in base.glob("watch-*"):
            pid = old.name.split("-")[1]
            if pid.isdecimal() and not runs(int(pid)):
                shutil.rmtree(old, ignore_errors=True)
        self.directory = Path(mkdtemp(prefix=f"watch-{os.getpid()}-", dir=base))
        self._kept: dict[Path, dict[int, Path]] = {}
        """For each output its copies by content, the newest accepted last."""
        self._made = 0

    def keep(self, wanted: Sequence[Wanted], outcome: Outcome) -> Outcome:
        """The outcome with a copy of each module that was swapped in."""
        pairs = zip(wanted, outcome.reports, strict=False)
        return replace(outcome, copies=tuple(self._copy(each.output, report) for each, report in pairs))

    def close(self) -> None:
        """Removes all copies."""
        shutil.rmtree(self.directory, ignore_errors=True)

    def _copy(self, output: Path, report: Report) -> Path | None:
        kept = self._kept.setdefault(output, {})
        content = report.module.content
        if report.code == SAME and content in kept:
            kept[content] = kept.pop(content)
        if report.code != OK:
            return None
        copy = kept.pop(content, None)
        try:
            copy = copy or self._make(Path(report.staged))
        except OSError:  # no space: a successor then gets what is on disk
            return None
        kept[content] = copy
        while len(kept) > COPIES_KEPT:
            with suppress(OSError):  # it goes with the directory
                kept.pop(next(iter(kept))).unlink(missing_ok=True)
        return copy

    def _make(self, staged: Path) -> Path:
        """Never a name used before: two outputs may have one content, and each removes its own copies."""
        self._made += 1
        copy = self.directory / f"{self._made}.so"
        with suppress(OSError):  # another file system, or one without links
            # Nobody writes to a staged file, and a host stages what it is given anew: it never opens this inode twice.
            os.link(staged, copy)
            return copy
        try:
            shutil.copyfile(staged, copy)
            copy.chmod(0o500)
        except OSError:
            copy.unlink(missing_ok=True)
            raise
        return copy
