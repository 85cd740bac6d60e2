"""No fenced snippet of the repository's documentation goes untested."""

from __future__ import annotations

import re
import subprocess

from conftest import ROOT
from documents import blocks

TESTED = {
    r"README\.md": "test_readme.py",
    r"hotreload/pages/codes/E-[A-Z-]+\.md": "test_pages.py",
    r"hotreload/pages/migrating\.md": "test_migrating.py",
    r"hotreload/pages/control\.md": "test_control_page.py",
}
"""Files with fenced blocks, and the test that runs them. Indented ones: test_example_readmes.py, test_rust.py."""


def test_every_file_with_snippets_has_a_test_that_runs_them() -> None:
    listed = subprocess.run(["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.split():
        if blocks((ROOT / name).read_text(encoding="utf-8")):
            tests = [test for pattern, test in TESTED.items() if re.fullmatch(pattern, name)]
            assert tests, f"{name} has snippets: run them in a test, and list it here"
            assert (ROOT / "tests" / "integration" / tests[0]).is_file()
