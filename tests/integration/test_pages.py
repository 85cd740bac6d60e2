"""Every snippet of the pages that ship with the package, as a reader would run it."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import plain_checkout
from documents import blocks, reader_environment

from hotreload import codes

SHOWN = {code.name: blocks(code.page.read_text(encoding="utf-8")) for code in codes.codes().values()}


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="hr-") as runtime:
        yield reader_environment(tmp_path, Path(runtime))


def test_all_snippets_say_what_they_show() -> None:
    for code, found in SHOWN.items():
        assert [(each.label, each.language) for each in found] in ([], [(f"shows: {code}", "sh")]), code


@plain_checkout
@pytest.mark.parametrize("code", [code for code, found in SHOWN.items() if found])
def test_a_code_is_shown_by_its_snippet(code: str, environment: dict[str, str], tmp_path: Path, cc: str) -> None:
    """The last command fails with the code; nothing before it does."""
    (block,) = SHOWN[code]
    done = subprocess.run(
        ["bash", "-c", "umask 022\n" + block.text],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode != 0 and code in said, said
    assert "warning:" not in said and "rror:" not in said.replace("Error: ", ""), said
