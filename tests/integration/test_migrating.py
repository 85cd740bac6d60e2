"""The migration page: its code is built and run, ours and (from their published releases) the others'."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import peer_headers
import pytest
from conftest import INCLUDE, MODULE_FLAGS, ROOT, RequireTool
from documents import blocks, reader_environment
from integration.harness import Output

from hotreload import codes

PAGE = (codes.PAGES / "migrating.md").read_text(encoding="utf-8")
FILES = {block.label.removeprefix("file: "): block.text for block in blocks(PAGE)}
OURS = f'hotreload = {{ path = "{ROOT / "shim" / "rust"}"OPTIONS }}'
SHIM = [*sorted((ROOT / "shim" / "src").glob("*.c")), "-lpthread", "-ldl"]


@pytest.fixture(scope="module")
def target(require_tool: RequireTool, pytestconfig: pytest.Config) -> Path:
    """The cargo target directory that the other Rust tests use as well."""
    require_tool("cargo")
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("rust-target")


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with tempfile.TemporaryDirectory(prefix="hr-") as runtime:
        yield reader_environment(tmp_path, Path(runtime))


def crate(directory: Path, name: str, dependency: str, source: str, *, kind: str = "") -> Path:
    """Writes a package: a program, or a library of some kind."""
    (directory / "src").mkdir(parents=True)
    lib = f"[lib]\ncrate-type = [{kind}]\n" if kind else ""
    head = f'[package]\nname = "{name}"\nversion = "0.1.0"\nedition = "2021"\n{lib}[dependencies]\n{dependency}\n'
    (directory / "Cargo.toml").write_text(head + "[workspace]\n", encoding="utf-8")
    (directory / "src" / ("lib.rs" if kind else "main.rs")).write_text(source, encoding="utf-8")
    return directory


def cargo(what: str, directory: Path, target: Path, *more: str) -> None:
    command = ["cargo", what, "--quiet", *more, "--target-dir", str(target)]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, umask=0o022)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr


def steps(lines: list[str]) -> set[int]:
    """The differences between the numbers that a host prints; what else is there tells how it was started."""
    numbers = [int(found[1]) for line in lines if (found := re.fullmatch(r"(?:host \| )?(\d+)\s*", line))]
    return {after - before for before, after in pairwise(numbers)}


def seen(command: list[str | Path], environment: dict[str, str], cwd: Path, wanted: int) -> set[int]:
    """Runs a program until it counts in steps of ``wanted``; all steps seen."""
    with subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, cwd=cwd
    ) as process:
        output = Output(process.stdout)
        try:
            output.find(lambda _: wanted in steps(list(output.lines)))
            return steps(list(output.lines))
        finally:
            process.terminate()
            process.wait(60)
            output.end()


def test_all_snippets_are_files_that_a_test_uses() -> None:
    used = set(re.findall(r'FILES\["([^"]+)"\]', Path(__file__).read_text(encoding="utf-8")))
    assert used == set(FILES)


# ---- hotpatch-rs ----


def test_hotpatch_rs(target: Path, tmp_path: Path) -> None:
    published = 'hotpatch-rs = "=0.1.0"'
    crate(tmp_path / "module", "moving-module", published, FILES["hotpatch-rs/module.rs"], kind='"cdylib"')
    crate(tmp_path / "before", "moving-before", published, FILES["hotpatch-rs/before.rs"])
    crate(tmp_path / "after", "moving-after", OURS.replace("OPTIONS", ""), FILES["hotpatch-rs/after.rs"])
    for name in ("module", "before", "after"):
        cargo("build", tmp_path / name, target, "--release")
    module = target / "release" / "libmoving_module.so"
    for name in ("before", "after"):
        done = subprocess.run(
            [target / "release" / f"moving-{name}", module], capture_output=True, text=True, check=True
        )
        assert done.stdout == "11\n", "the module was built against hotpatch-rs, and loads in both"


def test_hotpatch_rs_changes_one_line() -> None:
    before, after = (FILES[f"hotpatch-rs/{name}.rs"].splitlines() for name in ("before", "after"))
    assert len(before) == len(after) and sum(a != b for a, b in zip(before, after, strict=True)) == 1


# ---- hot-lib-reloader ----


def test_hot_lib_reloader_before(target: Path, tmp_path: Path) -> None:
    """Checked by the compiler; its watching is not ours to test."""
    host = crate(
        tmp_path / "host", "moving-hlr", 'hot-lib-reloader = "=0.8.2"', FILES["hot-lib-reloader/before/main.rs"]
    )
    crate(host / "lib", "counter_lib", "", FILES["hot-lib-reloader/before/lib.rs"], kind='"rlib", "dylib"')
    cargo("check", host, target)
    cargo("check", host / "lib", target)


def test_hot_lib_reloader_after(target: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    small = OURS.replace("OPTIONS", ", default-features = false")
    crate(tmp_path / "lib", "moved-lib", small, FILES["hot-lib-reloader/after/lib.rs"], kind='"cdylib"')
    crate(tmp_path / "host", "moved-host", OURS.replace("OPTIONS", ""), FILES["hot-lib-reloader/after/main.rs"])
    for name in ("lib", "host"):
        cargo("build", tmp_path / name, target, "--release")
    module = tmp_path / "libmoved_lib.so"
    module.write_bytes((target / "release" / "libmoved_lib.so").read_bytes())
    command = ["hotreload", "watch", "--plain", module, "--", target / "release" / "moved-host"]
    assert seen(command, environment, tmp_path, 10) <= {1, 10}


# ---- cr.h ----


@pytest.fixture(scope="module")
def cr_header(require_tool: RequireTool, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """cr.h out of the package cr-sys, which carries it."""
    require_tool("cargo")
    return peer_headers.cr(tmp_path_factory.mktemp("cr") / "it")


def test_cr_before(cr_header: Path, tmp_path: Path, environment: dict[str, str], cxx: str) -> None:
    flags = ["-w", "-std=c++17", "-I", cr_header.parent]  # its own warnings are not ours
    (tmp_path / "host.cpp").write_text(FILES["cr/before/host.cpp"], encoding="utf-8")
    (tmp_path / "guest.cpp").write_text(FILES["cr/before/guest.cpp"], encoding="utf-8")
    subprocess.run([cxx, *flags, "host.cpp", "-o", "host", "-ldl", "-lstdc++fs"], cwd=tmp_path, check=True)
    subprocess.run([cxx, *flags, "-shared", "-fPIC", "guest.cpp", "-o", "guest.so"], cwd=tmp_path, check=True)
    assert seen([tmp_path / "host", tmp_path / "guest.so"], environment, tmp_path, 10) == {10}


def test_cr_after(tmp_path: Path, environment: dict[str, str], cc: str) -> None:
    strict = ["-std=c11", "-D_DEFAULT_SOURCE", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-I", INCLUDE]
    (tmp_path / "host.c").write_text(FILES["cr/after/host.c"], encoding="utf-8")
    (tmp_path / "module.c").write_text(FILES["cr/after/module.c"], encoding="utf-8")
    subprocess.run([cc, *strict, "host.c", *SHIM, "-o", "host"], cwd=tmp_path, check=True)
    subprocess.run([cc, *strict, *MODULE_FLAGS, "module.c", "-o", "module.so"], cwd=tmp_path, check=True, umask=0o022)
    command: list[str | Path] = ["hotreload", "watch", "--plain", "module.so", "--", tmp_path / "host"]
    assert seen(command, environment, tmp_path, 10) == {10}
