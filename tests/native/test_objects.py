"""The objects that many tests link: compiled once for each content, by one of those who ask at a time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import objects
import pytest


class Compiler:
    """Notes what it is asked for."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def __call__(self, command: Sequence[str | Path]) -> None:
        output = Path(command[command.index("-o") + 1])
        self.made.append(output.name)
        output.write_text(Path(command[-1]).read_text())


@pytest.fixture
def compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    for name in ("SOURCES", "INCLUDE", "KEPT"):
        monkeypatch.setattr(objects, name, tmp_path / name)
    for path, text in {"SOURCES/b.c": "b", "SOURCES/a.c": "a", "SOURCES/in.h": "1", "INCLUDE/lib/abi.h": "1"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return Compiler()


def ask(compiler: Compiler, *flags: str) -> list[Path]:
    return objects.compiled("true", flags, compiler)


def test_once_for_all_who_ask(compiler: Compiler) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: ask(compiler), range(4)))
    assert compiler.made == ["a.o", "b.o"] and found == [found[0]] * 4
    assert [path.read_text() for path in found[0]] == ["a", "b"]


@pytest.mark.parametrize("changed", ["SOURCES/a.c", "SOURCES/in.h", "SOURCES/c.c", "INCLUDE/lib/abi.h"])
def test_again_for_another_content(compiler: Compiler, tmp_path: Path, changed: str) -> None:
    before = ask(compiler)
    (tmp_path / changed).write_text("other")
    after = ask(compiler)
    assert after[0].parent != before[0].parent and before[0].exists()
    assert len(compiler.made) == len(before) + len(after)


def test_again_for_other_flags(compiler: Compiler) -> None:
    assert ask(compiler, "-O2")[0].parent != ask(compiler, "-O0")[0].parent


def test_what_was_broken_off_is_made_anew(compiler: Compiler) -> None:
    def fail(command: Sequence[str | Path]) -> None:
        compiler(command)
        raise RuntimeError("no space")

    with pytest.raises(RuntimeError):
        objects.compiled("true", [], fail)
    assert [path.read_text() for path in ask(compiler)] == ["a", "b"]


def test_few_are_kept(compiler: Compiler) -> None:
    for number in range(objects.KEPT_MOST + 3):
        newest = ask(compiler, str(number))
    assert len([path for path in objects.KEPT.iterdir() if path.is_dir()]) == objects.KEPT_MOST and newest[0].exists()
