"""Templates: which files a kind takes, how they are filled in, and that nothing is ever overwritten."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hotreload import scaffold, sources
from hotreload.errors import HotreloadError

VALUES = {
    "NAME": "my-game",
    "IDENT": "my_game",
    "UPPER": "MY_GAME",
    "PYTHON": "python3",
    "RUST_DIR": "/crate",
    "ARCHIVE": "/lib.a",
    "ZIG": "zig",
}


def make(templates: Path, name: str, text: str) -> None:
    path = templates / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_kinds_and_marks(tmp_path: Path) -> None:
    make(tmp_path, "c/common/a.txt", "@NAME@ @OTHER@ a@NAME@b user@host.org")
    make(tmp_path, "c/common/dot-hidden", "x")
    make(tmp_path, "c/module/@IDENT@/m.c", "m")
    make(tmp_path, "c/host/a.txt", "of the host")
    make(tmp_path, "c/both/b.txt", "b")
    assert scaffold.files(tmp_path, "c", "module", VALUES) == {
        "a.txt": "my-game @OTHER@ amy-gameb user@host.org",
        ".hidden": "x",
        "my_game/m.c": "m",
    }
    assert set(scaffold.files(tmp_path, "c", "host", VALUES)) == {"a.txt", ".hidden"}
    both = scaffold.files(tmp_path, "c", "both", VALUES)
    assert set(both) == {"a.txt", ".hidden", "my_game/m.c", "b.txt"} and both["a.txt"] == "of the host"


@pytest.mark.parametrize("kind", scaffold.KINDS)
@pytest.mark.parametrize("language", scaffold.LANGUAGES)
def test_every_template_is_filled_in_whole(language: str, kind: str) -> None:
    found = scaffold.files(sources.templates(), language, kind, VALUES)
    assert {"hotreload.toml", "README.md", ".gitignore"} <= set(found)
    for name, text in found.items():
        assert not re.search(r"@[A-Z_]+@", name + text), name
        assert "dot-" not in name


@pytest.mark.parametrize("kind", scaffold.KINDS)
@pytest.mark.parametrize("language", scaffold.LANGUAGES)
def test_readmes_name_what_is_there(language: str, kind: str) -> None:
    """Its commands are run by integration/test_newcomer.py."""
    found = scaffold.files(sources.templates(), language, kind, VALUES)
    told = set(re.findall(r"`([^`]+)`", found["README.md"]))
    code = "".join(text for name, text in found.items() if name != "README.md")
    places = {name for name in told if "/" in name or name.rpartition(".")[2] in ("c", "cpp", "h", "hpp", "zig", "py")}
    assert places and all(any(f"{file}/".startswith(f"{name}/") for file in found) for name in places), places
    names = told - places
    assert "my-game.tick" in names and all(name in code for name in names), names
    assert ("dev" in found["README.md"].split()) and found["README.md"].endswith("\n")


@pytest.mark.parametrize("name", ["", "A", "1a", "a b", "../x", "-x", "a" * 41, "ä"])
def test_bad_names(name: str) -> None:
    with pytest.raises(HotreloadError, match="E-USAGE"):
        scaffold.check_name(name)


@pytest.mark.parametrize(
    ("name", "near"), [("My Game!", "my-game"), ("3D_View", "d_view"), ("a" * 41, "a" * 40), ("3", "")]
)
def test_a_bad_name_comes_with_the_nearest_good_one(name: str, near: str) -> None:
    with pytest.raises(HotreloadError) as told:
        scaffold.check_name(name)
    assert told.value.fix == (f"call it {near}" if near else "")
    if near:
        scaffold.check_name(near)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    with pytest.raises(HotreloadError) as told:
        scaffold.write(tmp_path, {"a": "1", "b": "2"})
    assert told.value.code == "E-EXISTS" and told.value.found == "b"
    assert (tmp_path / "b").read_text() == "mine" and not (tmp_path / "a").exists()


def test_a_dangling_link_is_there_too(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(HotreloadError, match="E-EXISTS"):
        scaffold.write(tmp_path, {"a": "1"})


def test_what_is_written_is_its_owners_alone(tmp_path: Path) -> None:
    written = scaffold.write(tmp_path / "new", {"a/b": "1"})
    assert written == [tmp_path / "new" / "a" / "b"] and written[0].read_text() == "1"
    for path in (written[0], *written[0].relative_to(tmp_path).parents[:-1]):
        assert (tmp_path / path).stat().st_mode & 0o022 == 0
