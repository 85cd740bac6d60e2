"""`make docs`: the manual is whole, and its link checker finds what is dead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import ROOT, RequireTool

from hotreload import codes, commands
from hotreload.manual import build, headers, links

INCLUDE = ROOT / "shim" / "include" / "hotreload"


@pytest.fixture(scope="module")
def manual(tmp_path_factory: pytest.TempPathFactory, require_tool: RequireTool) -> Path:
    require_tool("cargo")
    out = tmp_path_factory.mktemp("manual") / "docs"
    build(out, ROOT, rust=True)
    return out


def test_no_link_is_dead(manual: Path) -> None:
    assert links.dead(manual) == []
    pages = {str(path.relative_to(manual)) for path in manual.rglob("*.html")}
    assert {"index.html", "cli.html", "c.html", "codes/index.html", "readme.html", "migrating.html"} <= pages
    assert "rust/hotreload/index.html" in pages and "rust/hotreload/struct.Slot.html" in pages


def test_every_command_and_option_is_there(manual: Path) -> None:
    text = (manual / "cli.html").read_text(encoding="utf-8")
    assert all(f'id="{name}"' in text for name in commands.COMMANDS)
    assert all(
        option in text for option in ("--follow", "--on-swap", "--no-existing", "--cmake-dir", "[-- HOST ARG...]")
    )


def test_every_public_function_and_constant_is_there(manual: Path) -> None:
    anchors = set(re.findall(r'<a id="[\w.]+?-(\w+)"', (manual / "c.html").read_text(encoding="utf-8")))
    for path in INCLUDE.glob("*.h"):
        text = re.sub(r"/\*.*?\*/", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        wanted = set(re.findall(r"^[\w][\w \*]*?[ \*](hr_\w+)\([^;{]*\);", text, re.MULTILINE))
        wanted |= set(re.findall(r"^#define (HR_[A-Z0-9_]+) ", text, re.MULTILINE))
        wanted |= set(re.findall(r"^\} (hr_\w+);", text, re.MULTILINE))
        assert wanted <= anchors, (path.name, sorted(wanted - anchors))


def test_every_code_has_a_page(manual: Path) -> None:
    index = (manual / "codes" / "index.html").read_text(encoding="utf-8")
    for name, code in codes.codes().items():
        assert f'href="{name}.html"' in index
        page = (manual / "codes" / f"{name}.html").read_text(encoding="utf-8")
        assert "What to do" in page and "<!-- shows" not in page.split("</style>")[0]
        assert f"In short: {code.fix.split('(')[0].split(chr(34))[0].split(chr(39))[0].split('&')[0][:20]}" in page


def test_a_name_in_a_comment_leads_to_its_declaration(manual: Path) -> None:
    text = (manual / "c.html").read_text(encoding="utf-8")
    assert re.search(r'<a href="#hotreload\.h-hr_declare">hr_declare</a>', text)


@pytest.mark.parametrize(
    ("link", "is_dead"),
    [
        ("there.html", False),
        ("there.html#part", False),
        ("#top", False),
        ("folder/", False),
        ("https://example.org/nowhere", False),
        ("gone.html", True),
        ("there.html#gone", True),
        ("#gone", True),
        ("empty/", True),
    ],
)
def test_the_checker(tmp_path: Path, link: str, is_dead: bool) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder" / "index.html").write_text("<p>")
    (tmp_path / "there.html").write_text('<h2 id="part">')
    (tmp_path / "page.html").write_text(f'<a name="top"></a><a href="{link}">')
    assert links.dead(tmp_path) == ([f"page.html: {link}"] if is_dead else [])


def test_a_header_is_taken_apart() -> None:
    about, found = headers.parse(
        "/* About it.\n * More. */\n#ifndef HR_X_H\n#define HR_X_H\n\n"
        "/* How many. */\n#define HR_MANY 4\n\n"
        "typedef struct hr_a hr_a;\ntypedef struct hr_b hr_b;\n\n"
        "/* Adds\n * one. */\nint hr_add(hr_a *a, int (*with)(int));\n/* Takes one. */\nint hr_take(hr_a *a);\n\n"
        "typedef enum hr_kind {\n    HR_ONE = 1, /* the first */\n    HR_TWO\n} hr_kind;\n\n#endif\n"
    )
    assert about == "About it.\nMore."
    assert [(each.names, each.comment) for each in found] == [
        (("HR_MANY",), "How many."),
        (("hr_b", "hr_a"), ""),
        (("hr_add",), "Adds\none."),
        (("hr_take",), "Takes one."),
        (("hr_kind", "HR_ONE", "HR_TWO"), ""),
    ]
