"""Every call that the shim makes to the system fails once, at every place: `faults.c` says what has to hold."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import cbuild
import pytest

SOURCE = Path(__file__).with_name("faults.c")
DEEDS = ("start", "load", "roll back", "request")
FAULTS = ("open", "mmap", "malloc", "calloc", "pthread_create", "pread", "pwrite", "recv", "sendmsg", "poll")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("faults")
    shim = cbuild.build_shim(directory / "shim")
    wrapped = re.findall(r"^WRAPPED\([^,]+, (\w+),|^int __wrap_(open)\(.*\{$", SOURCE.read_text(), re.MULTILINE)
    names = [first or second for first, second in wrapped]
    return shim.host(SOURCE, directory / "faults", *(f"-Wl,--wrap={name}" for name in names))


def test_every_fault_at_every_place(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.umask(0o022)  # a module that others may write to is refused
    for number, name in ((1, "one"), (2, "two")):
        cbuild.build_module(tmp_path / f"{name}.so", cbuild.module_source("m", number, {"a": f"return {number};"}))
    for directory in ("run", "state"):
        (tmp_path / directory).mkdir(mode=0o700)
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run"), "XDG_STATE_HOME": str(tmp_path / "state")}
    done = subprocess.run([program, tmp_path], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    with capsys.disabled():
        print("\n" + done.stdout.splitlines()[-1])
    for deed in DEEDS:
        assert re.search(rf"^{deed} ", done.stdout, re.MULTILINE), deed
    for function in FAULTS:
        assert re.search(rf" {function} ", done.stdout), function
    assert not list((tmp_path / "run" / "hotreload").iterdir()), "sockets are left"
