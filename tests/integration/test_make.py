"""The Makefile's own rules, in a copy of the tree's names: nothing is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def make(tree: Path, *arguments: str) -> int:
    environment = {name: value for name, value in os.environ.items() if "MAKE" not in name}
    return subprocess.run(["make", *arguments, ".venv/.installed"], cwd=tree, env=environment, check=False).returncode


@pytest.fixture
def tree(tmp_path: Path, require_tool: Callable[..., Path]) -> Path:
    """Make takes the package for installed, without having done it (``-t``)."""
    require_tool("make")
    for name in ("hotreload", "shim/src", "shim/include", "shim/cmake"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "pyproject.toml", "shim/CMakeLists.txt", "shim/cffi_build.py", "shim/hotreload.map"):
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "shim/hotreload.pc.in", tmp_path / "shim")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").touch()
    assert make(tmp_path, "-t", "-s") == 0 and make(tmp_path, "-q") == 0
    return tmp_path


@pytest.mark.parametrize("name", ["hotreload/new.py", "hotreload/new/__init__.py", "hotreload/reporters/view/new.py"])
def test_a_module_that_comes_installs_again(name: str, tree: Path) -> None:
    """An editable installation knows modules by name: a tree that was pulled would not find them."""
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text("")
    assert make(tree, "-q") == 1


@pytest.mark.parametrize("name", ["hotreload/runner.py", "hotreload/reporters/view/slots.py"])
def test_a_module_that_goes_installs_again(name: str, tree: Path) -> None:
    (tree / name).unlink()
    assert make(tree, "-q") == 1


def test_an_edit_of_a_module_installs_nothing(tree: Path) -> None:
    (tree / "hotreload" / "runner.py").write_text("")
    assert make(tree, "-q") == 0
