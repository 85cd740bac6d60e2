"""`hotreload dev --suggest`: measured in a copy, by builds that take as long as their environment says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from hotreload import speed
from hotreload.errors import ConfigError
from hotreload.reporters.answers import print_gains
from hotreload.speed import Baseline, Gain, Lever, suggest

BUILD = "echo built >> $LOG; cp a.c copy-of-a.c; sleep ${NAP:-0.3}"


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(speed, "ROUNDS", 1)
    monkeypatch.setattr(
        speed,
        "LEVERS",
        (
            Lever("quick", ("sh",), ("Makefile",), {"NAP": "0"}, caveat="rests less"),
            Lever("broken", ("sh",), ("Makefile",), suffix="; echo error: no >&2; exit 1"),
            Lever("absent", ("no-such-program",), ("Makefile",)),
            Lever("foreign", ("sh",), ("Cargo.toml",)),
        ),
    )
    project = tmp_path / "project"
    for name in ("Makefile", "a.c", "build/old.c", ".git/config"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text("int a;\n")
    return project


def environment(tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "LOG": str(tmp_path / "log")}


def files(project: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in project.rglob("*") if path.is_file()}


def test_each_lever_is_measured_and_nothing_is_changed(project: Path, tmp_path: Path) -> None:
    before, told = files(project), list[str]()
    base, gains = suggest(project, "echo prepared >> $LOG", BUILD, environment(tmp_path), told.append)
    assert files(project) == before
    assert base.source == "a.c" and base.warm >= 0.3 and told[1:] == ["measuring quick", "measuring broken"]
    found = {gain.name: gain for gain in gains}
    assert list(found) == ["warm build directory", "quick", "broken", "absent"]
    assert found["quick"].ratio > 1 and found["quick"].advice == 'env.NAP = "0"' and found["quick"].note == "rests less"
    assert found["broken"].seconds is None and found["broken"].note == "does not build here: error: no"
    assert found["absent"].note == "no-such-program is not installed"
    log = (tmp_path / "log").read_text().split()
    assert log == ["prepared", "built", "built"] * 2 + ["prepared", "built"]


def test_a_project_that_does_not_build_is_told(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="fails in a copy"):
        suggest(project, "", "exit 3", environment(tmp_path), lambda text: None)


def test_there_must_be_a_source(project: Path, tmp_path: Path) -> None:
    (project / "a.c").unlink()
    with pytest.raises(ConfigError, match="no sources"):
        suggest(project, "", BUILD, environment(tmp_path), lambda text: None)


def test_the_patch_is_what_is_edited(project: Path, tmp_path: Path) -> None:
    (project / "crates/patch/src").mkdir(parents=True)
    shutil.copy(project / "a.c", project / "crates/patch/src/lib.rs")
    (project / "a.c").touch()
    base, _ = suggest(project, "", "true", environment(tmp_path), lambda text: None)
    assert base.source == "crates/patch/src/lib.rs"


def test_build_directories_are_known_by_what_they_hold(project: Path, tmp_path: Path) -> None:
    """One by any name is neither copied, where it would be no first build, nor edited."""
    (project / "out/cmake").mkdir(parents=True)
    (project / "out/cmake/CMakeCache.txt").touch()
    (project / "out/cmake/generated.c").touch()
    base, _ = suggest(project, "", "test ! -e out/cmake", environment(tmp_path), lambda text: None)
    assert base.source == "a.c"


def test_what_keeps_its_flags_is_told(project: Path, tmp_path: Path) -> None:
    (project / "CMakeLists.txt").touch()
    _, gains = suggest(project, "", BUILD, environment(tmp_path), lambda text: None)
    (quick,) = (gain for gain in gains if gain.name == "quick")
    assert quick.note.startswith("rests less; remove the build directory once")


def test_what_gains_nothing_is_not_advised() -> None:
    warm = Gain("warm build directory", 0.1, 5.0, "keep it")
    slower = Gain("mold", 0.2, 0.5, 'env.LDFLAGS = "-fuse-ld=mold"')
    console = Console(width=100)
    with console.capture() as shown:
        print_gains(Baseline("a.c", 0.5, 0.1), [warm, slower], console)
    assert "-fuse-ld=mold" not in shown.get() and "5.00 x" in shown.get() and "0.50 x" not in shown.get()
    assert "nothing that is installed here makes these builds faster" in shown.get()
    with console.capture() as shown:
        print_gains(Baseline("a.c", 0.5, 0.1), [warm, Gain("lld", 0.05, 2.0, "env.LDFLAGS")], console)
    assert "env.LDFLAGS" in shown.get() and "nothing that is installed" not in shown.get()
