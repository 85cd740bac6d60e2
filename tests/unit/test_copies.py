"""Kept copies of what hosts have accepted."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hotreload.copies import COPIES_KEPT, Copies
from hotreload.model import OK, SAME, Module, Report
from hotreload.session import Outcome, Wanted

A, B = Path("/out/a.so"), Path("/out/b.so")
LONG = 60.0


def accepted(tmp_path: Path, content: int, output: Path = A, code: str = OK) -> tuple[list[Wanted], Outcome]:
    staged = tmp_path / f"staged-{content}.so"
    staged.write_text(str(content))
    staged.chmod(0o500)
    module = Module("m", content, "", str(output), content)
    return [Wanted(output, output, content)], Outcome((Report(code, module, 1, staged=str(staged)),))


def test_copies_outlive_the_staged_file(tmp_path: Path) -> None:
    copies = Copies(tmp_path)
    (copy,) = copies.keep(*accepted(tmp_path, 1)).copies
    (tmp_path / "staged-1.so").unlink()
    assert copy and copy.read_text() == "1" and copy.stat().st_mode & 0o777 == 0o500
    assert copies.directory.stat().st_mode & 0o777 == 0o700
    copies.close()
    assert not copy.exists()


def test_a_copy_costs_no_bytes_on_one_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is made before the swap is told, and debug builds have many megabytes."""
    copies = Copies(tmp_path)
    (copy,) = copies.keep(*accepted(tmp_path, 1)).copies
    assert copy and copy.samefile(tmp_path / "staged-1.so")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "other file system")))
    (copy,) = copies.keep(*accepted(tmp_path, 2)).copies
    assert copy and copy.read_text() == "2" and copy.stat().st_mode & 0o777 == 0o500
    assert not copy.samefile(tmp_path / "staged-2.so")


def test_only_what_was_swapped_in_is_kept(tmp_path: Path) -> None:
    copies = Copies(tmp_path)
    for code in (SAME, "E-ABI"):
        assert copies.keep(*accepted(tmp_path, 1, code=code)).copies == (None,)
    assert list(copies.directory.iterdir()) == []


def test_the_newest_accepted_are_kept(tmp_path: Path) -> None:
    copies = Copies(tmp_path)
    (first,) = copies.keep(*accepted(tmp_path, 1)).copies
    for content in range(2, COPIES_KEPT + 1):
        copies.keep(*accepted(tmp_path, content))
    assert copies.keep(*accepted(tmp_path, 1)).copies == (first,), "one content has one copy"
    copies.keep(*accepted(tmp_path, 2, code=SAME))
    copies.keep(*accepted(tmp_path, 100))
    copies.keep(*accepted(tmp_path, 101))
    assert first and first.exists(), "it came back later than the oldest"
    kept = sorted(int(path.read_text()) for path in copies.directory.iterdir())
    assert kept == sorted([1, 2, 100, 101, *range(5, COPIES_KEPT + 1)])


def test_two_outputs_of_one_content_have_copies_of_their_own(tmp_path: Path) -> None:
    copies = Copies(tmp_path)
    (one,) = copies.keep(*accepted(tmp_path, 1, A)).copies
    (other,) = copies.keep(*accepted(tmp_path, 1, B)).copies
    for content in range(2, COPIES_KEPT + 2):
        copies.keep(*accepted(tmp_path, content, A))
    assert one and not one.exists() and other and other.exists()


def test_what_cannot_be_copied_is_no_fault(tmp_path: Path) -> None:
    copies = Copies(tmp_path)
    wanted, outcome = accepted(tmp_path, 1)
    (tmp_path / "staged-1.so").unlink()
    assert copies.keep(wanted, outcome).copies == (None,)
    assert list(copies.directory.iterdir()) == []


def test_copies_of_killed_watchers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(LONG)
    for name in (f"watch-{dead.pid}", f"watch-{dead.pid}-x", f"watch-{os.getppid()}-x", "watch-", "watch-me"):
        (tmp_path / name).mkdir()
    copies = Copies(tmp_path)
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {f"watch-{os.getppid()}-x", "watch-", "watch-me", copies.directory.name}
