"""`hotreload dev --suggest`: measured in a copy, by builds that take as long as their environment says."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from hotreload import speed
from hotreload.errors import ConfigError
from hotreload.speed import Lever, suggest

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
