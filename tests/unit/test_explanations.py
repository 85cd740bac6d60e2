"""Codes, their pages, and what `hotreload explain` makes of them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hotreload import codes, commands, errors, native

PACKAGE = Path(codes.__file__).parent
STATUS_H = Path(__file__).resolve().parents[2] / "shim" / "include" / "hotreload" / "status.h"
HOW = "write hotreload/pages/codes/CODE.md: a heading with the code, what it means, '## What to do'"


def test_every_status_has_a_code() -> None:
    names = re.findall(r"^\s+HR_(E_[A-Z_]+) = \d+", STATUS_H.read_text(encoding="utf-8"), re.MULTILINE)
    assert [name.replace("_", "-") for name in names] == list(native.statuses())


def test_every_code_has_a_page_and_every_page_a_code() -> None:
    pages = {path.stem for path in (codes.PAGES / "codes").glob("*.md")}
    known = set(codes.codes())
    assert not known - pages, HOW
    assert not pages - known, "a page whose code is in neither status.c nor codes.TOOL_CODES"


def test_every_code_that_python_names_is_known() -> None:
    named = {
        code
        for path in PACKAGE.rglob("*.py")
        for code in re.findall(r'"(E-[A-Z-]*[A-Z])"', path.read_text(encoding="utf-8"))
    }
    assert named <= set(codes.codes()), "add it to status.c, or to codes.TOOL_CODES"


@pytest.mark.parametrize("code", codes.codes().values(), ids=lambda code: code.name)
def test_page(code: codes.Code) -> None:
    text = code.page.read_text(encoding="utf-8")
    assert text.startswith(f"# {code.name}\n\n")
    assert code.text and code.fix
    assert "\n## What to do\n" in text, HOW
    assert all(len(line) <= 120 for line in text.splitlines())
    others = set(re.findall(r"\bE-[A-Z-]*[A-Z]\b", text))
    assert others <= set(codes.codes())


@pytest.mark.parametrize("asked", ["E-NO-HOST", "e-no-host", "no-host", "NO_HOST"])
def test_a_code_is_found_however_it_is_written(asked: str) -> None:
    assert codes.find(asked).name == "E-NO-HOST"


def test_a_misspelt_code_names_the_nearest() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        codes.find("E-NO-HOTS")
    assert "E-NO-HOST" in caught.value.fix


def test_explain_prints_meaning_page_and_cure(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["explain", "abi"]) == errors.EXIT_OK
    shown = capsys.readouterr().out
    code = codes.find("E-ABI")
    assert shown.startswith(f"E-ABI: {code.text}\n")
    assert shown.endswith(f"in short: {code.fix}\n")
    assert "## What to do" in shown and "<!--" not in shown


def test_explain_draws_the_page_on_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["explain", "E-ABI", "--color", "always"]) == errors.EXIT_OK
    shown = capsys.readouterr().out
    assert "What to do" in shown and "## What to do" not in shown and "```" not in shown


def test_explain_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["explain", "--json", "E-ABI"]) == errors.EXIT_OK
    told = json.loads(capsys.readouterr().out)
    code = codes.find("E-ABI")
    assert (told["code"], told["text"], told["fix"]) == ("E-ABI", code.text, code.fix)
    assert "## What to do" in told["page"]


def test_explain_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["explain"]) == errors.EXIT_OK
    shown = capsys.readouterr().out
    assert all(f"{code.name} " in shown and code.text in shown for code in codes.codes().values())
    assert commands.main(["explain", "--json"]) == errors.EXIT_OK
    assert [each["code"] for each in json.loads(capsys.readouterr().out)] == list(codes.codes())


def test_explain_of_nothing_known_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.main(["explain", "--json", "E-NONE"]) == errors.EXIT_USAGE
    told = json.loads(capsys.readouterr().err)
    assert told["code"] == "E-USAGE" and told["fix"]
