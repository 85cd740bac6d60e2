"""The arrows of the layout: who may import or include whom, who touches which dependency, and the public names."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hotreload

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "hotreload"
HEADERS = ROOT / "shim" / "include" / "hotreload"
SOURCES = ROOT / "shim" / "src"

# "errors" and "model" are leaves that all may import. "commands" and "reporters" stand for all their files, and "" for
# hotreload/__init__.py. A file that is not listed may import the leaves alone: list it when it needs more.
LEAVES = {"errors", "model"}
ARROWS: dict[str, set[str]] = {
    "errors": set(),
    "model": {"errors"},
    "": {"notebook", "runtime", "typed"},
    "__main__": {"commands"},
    "config": set(),
    "native": set(),
    "runtime": {"native"},
    "signature": set(),
    "header": {"signature"},
    "arguments": {"native", "signature"},
    "adopt": {"header", "native", "runtime", "signature", "sources"},
    "typed": {"adopt", "arguments", "header", "native", "runtime", "signature"},
    "notebook": {"link", "native", "reporters", "runner", "runtime", "session", "typed"},
    "link": {"native", "symbols"},
    "symbols": set(),
    "hosts": {"link", "native"},
    "follower": {"hosts", "link"},
    "mounts": set(),
    "doctor": {"hosts", "mounts", "native", "sources"},
    "elf": set(),
    "entries": set(),
    "dwarf": {"elf", "entries"},
    "host_files": {"dwarf", "elf"},
    "type_cache": {"dwarf", "elf"},
    "debug_types": {"dwarf", "host_files", "native", "type_cache"},
    "comparer": {"debug_types", "type_cache"},
    "examiner": {"comparer", "debug_types", "dwarf", "host_files", "native", "session"},
    "history": {"hosts", "native"},
    "metrics": {"follower", "meter"},
    "core_file": set(),
    "postmortem": {"core_file"},
    "bell": set(),
    "watcher": {"bell", "mounts", "native"},
    "session": {"session"},
    "meter": set(),
    "problems": set(),
    "project": set(),
    "speed": {"edits"},
    "builder": {"problems"},
    "edits": set(),
    "transaction": {"native", "session"},
    "copies": {"link", "native", "session"},
    "runner": {
        *("bell", "builder", "config", "copies", "edits", "examiner", "hosts", "link", "meter", "native", "session"),
        *("transaction", "watcher"),
    },
    "codes": {"native"},
    "demo": set(),
    "workshop": {"demo"},
    "director": {"demo", "session", "workshop"},
    "scaffold": set(),
    "sources": set(),
    "testing": {"session", "watcher", "hosts", "link", "native"},
    "manual": {"codes", "commands", "manual", "reporters", "sources"},
    "reporters": {"codes", "core_file", "doctor", "history", "postmortem", "session", "speed", "meter", "reporters"},
    "commands": {
        "",
        "codes",
        "commands",
        "config",
        "core_file",
        "debug_types",
        "demo",
        "director",
        "doctor",
        "examiner",
        "follower",
        "history",
        "hosts",
        "link",
        "meter",
        "metrics",
        "native",
        "postmortem",
        "project",
        "reporters",
        "runner",
        "scaffold",
        "session",
        "sources",
        "speed",
        "symbols",
        "transaction",
        "type_cache",
        "watcher",
        "workshop",
    },
}

# Each dependency is touched in one place.
OWNERS = {
    "_shim": {"native"},
    "cffi": set[str](),
    "elftools": {"elf", "entries"},
    "click": {"commands", "manual"},
    "markdown_it": {"manual"},
    "prometheus_client": {"metrics"},
    "rich": {"reporters", "commands"},
    "tomli": {"config"},
    "watchdog": {"watcher"},
}

INCLUDES = {
    "abi.h": set(),
    "status.h": {"abi.h"},
    "layout.h": {"status.h"},
    "describe.h": {"layout.h"},
    "preflight.h": {"layout.h"},
    "report.h": {"preflight.h"},
    "wire.h": {"hotreload.h"},
    "hotreload.h": {"describe.h", "report.h", "slot.h", "off.h"},
    "slot.h": set(),
    "off.h": set(),
    "patch.h": {"abi.h", "describe.h"},
}

PYTHON_FILES = sorted(PACKAGE.rglob("*.py"))
C_FILES = sorted(path for path in SOURCES.glob("*") if path.suffix in {".c", ".h"})


def layer(path: Path) -> str:
    """The name that ARROWS gives a file: its folder, or its own."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "" if parts == ("__init__",) else parts[0]


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports anywhere, as a dotted name; relative imports are not used here."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


def own(name: str) -> str | None:
    """The layer that ``hotreload.x.y`` names, or None for somebody else's module."""
    parts = name.split(".")
    if parts[0] != "hotreload":
        return None
    known = len(parts) > 1 and ((PACKAGE / parts[1]).is_dir() or (PACKAGE / f"{parts[1]}.py").is_file())
    known = known or (len(parts) > 1 and parts[1] == "_shim")
    return parts[1] if known else ""


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(path: Path) -> None:
    here = layer(path)
    used = {name for module in imports(path) if (name := own(module)) is not None} - {"_shim"}
    allowed = ARROWS.get(here, set()) | (LEAVES if here not in LEAVES else set())
    assert used <= allowed, f"{path.name} must not import {sorted(used - allowed)}"


@pytest.mark.parametrize("path", PYTHON_FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_dependencies_have_one_owner(path: Path) -> None:
    roots = {module.split(".")[1 if own(module) == "_shim" else 0] for module in imports(path)}
    foreign = roots - set(sys.stdlib_module_names) - {"hotreload"}
    for dependency in foreign:
        assert dependency in OWNERS, f"{path.name} imports {dependency}, which pyproject.toml does not offer"
        assert layer(path) in OWNERS[dependency], f"{path.name} must not import {dependency}"


@pytest.mark.parametrize("layer_name", sorted(ARROWS))
def test_arrows_have_no_circle(layer_name: str) -> None:
    seen: set[str] = set()
    waiting = sorted(ARROWS[layer_name] - {layer_name})
    while waiting:
        name = waiting.pop()
        seen.add(name)
        waiting += sorted(ARROWS.get(name, set()) - seen - {name})
    # commands and __init__ need the version that __init__ holds; __init__ in turn loads runtime only on demand.
    assert layer_name not in seen


def test_every_header_is_listed() -> None:
    assert {path.name for path in HEADERS.glob("*.h")} == set(INCLUDES)


@pytest.mark.parametrize("name", sorted(INCLUDES))
def test_headers_follow_the_arrows(name: str) -> None:
    ours, system = includes(HEADERS / name)
    assert ours <= INCLUDES[name]
    assert system <= {"stdint.h"}, "a public header brings nothing else into its user's file"


def test_cpp_stands_on_the_c_headers() -> None:
    ours, _ = includes(HEADERS / "hotreload.hpp")
    assert ours == {"hotreload.h", "patch.h"}
    assert [path.name for path in HEADERS.glob("*") if path.suffix != ".h"] == ["hotreload.hpp"]


SCANNING = {"scan.c", "linux_scan.c", "unload.c"}
LOADING = {f"{name}.c" for name in ("report", "fault", "module", "incoming", "prepare", "commit", "rollback")}
PREFLIGHT = {"preflight.c", "manifest.c", "descriptions.c", *(path.name for path in SOURCES.glob("image*.c"))}


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_sources_include_one_header_of_ours(path: Path) -> None:
    """internal.h brings the public headers, so that all sources see the same declarations; scan.h is what unloading has
    of its own, image.h what preflight has, module.h what loads modules."""
    ours, system = includes(path)
    if path.name == "internal.h":
        assert ours <= {"../include/hotreload/hotreload.h", "../include/hotreload/wire.h"}
    else:
        special = {"scan.h": SCANNING, "image.h": PREFLIGHT, "module.h": LOADING}
        assert ours == {next((name for name, files in special.items() if path.name in files), "internal.h")}
    assert not {name for name in system if name.startswith("hotreload/")}


def includes(path: Path) -> tuple[set[str], set[str]]:
    """The files included in quotes and those in angle brackets; comments that show an include do not count."""
    lines = re.findall(r'^#\s*include\s+([<"])([^">]+)', path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {name for mark, name in lines if mark == '"'}, {name for mark, name in lines if mark == "<"}


def test_public_names() -> None:
    assert hotreload.__all__ == [
        "CallFailed",
        "Change",
        "ChangeKind",
        "ConfigError",
        "Failure",
        "HotreloadError",
        "Module",
        "NoHost",
        "Rejected",
        "Report",
        "Runtime",
        "Slot",
        "TypedSlot",
        "__version__",
        "signature_header",
        "slot",
    ]


@pytest.mark.parametrize("name", hotreload.__all__)
def test_public_names_exist(name: str) -> None:
    value = getattr(hotreload, name)
    assert name == "__version__" or value.__name__ == name


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = hotreload.Nothing  # type: ignore[attr-defined]


def test_ci_lacks_nothing_in_silence() -> None:
    """pytest's own way to import what may be missing skips in CI too; `conftest.require_module` fails there."""
    tests = Path(__file__).resolve().parents[1]
    silent = "importor" + "skip"
    assert [path.name for path in tests.rglob("*.py") if silent in path.read_text(encoding="utf-8")] == []
