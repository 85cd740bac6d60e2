"""Every call that the shim makes to the system fails, at every place, once or from there on: `faults.c` says what has
to hold."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import cbuild
import pytest

SOURCE = Path(__file__).with_name("faults.c")
DEEDS = ("start", "load", "guarded", "tried", "commit", "roll back", "request", "unload")
EXPECTED = {
    "start": {"open", "mmap", "malloc", "calloc", "pthread_create", "pread", "pwrite", "bind"},
    "load": {"open", "mmap", "malloc", "calloc", "pread", "pwrite", "copy_file_range", "rename", "dlopen"},
    "guarded": {"calloc", "mmap", "pthread_create", "sigaltstack"},
    "tried": {"mmap", "fork"},
    "commit": set(),  # all that could fail has been done when it begins
    "roll back": {"calloc"},
    "request": {"accept4", "recv", "sendmsg", "poll", "open", "mmap", "malloc", "calloc"},
    "unload": {"mmap", "open", "opendir", "read", "pread", "dlopen"},
}
"""What each deed calls at least, and a fault of which is met."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("faults")
    shim = cbuild.build_shim(directory / "shim")
    wrapped = re.findall(r"^WRAPPED\([^,]+, (\w+),|^int __wrap_(open)\(.*\{$", SOURCE.read_text(), re.MULTILINE)
    names = [first or second for first, second in wrapped]
    return shim.host(SOURCE, directory / "faults", *(f"-Wl,--wrap={name}" for name in names))


def start(program: Path, directory: Path, deed: str) -> subprocess.Popen[str]:
    """In directories of its own: a host that cannot accept would have its queue filled by the others."""
    environment = dict(os.environ)
    for variable, kind in (("XDG_RUNTIME_DIR", "run"), ("XDG_STATE_HOME", "state")):
        private = directory / f"{kind}-{DEEDS.index(deed)}"
        private.mkdir(mode=0o700)
        environment[variable] = str(private)
    command = [program, directory, deed]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_every_fault_at_every_place(program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.umask(0o022)  # a module that others may write to is refused
    for number, name in ((1, "one"), (2, "two")):
        cbuild.build_module(tmp_path / f"{name}.so", cbuild.module_source("m", number, {"a": f"return {number};"}))
    running = {deed: start(program, tmp_path, deed) for deed in DEEDS}  # all at once: they wait more than they work
    told = {deed: process.communicate()[0] for deed, process in running.items()}
    total = 0
    for deed, process in running.items():
        assert process.returncode == 0, told[deed]
        met = set(re.findall(rf"^{deed} +(\w+) ", told[deed], re.MULTILINE))
        assert EXPECTED[deed] <= met, told[deed]
        refused = [line for line in told[deed].splitlines() if " EINTR " in line and "E-" in line]
        assert not refused, "what a signal interrupts is done again"
        total += int(told[deed].split()[-1])
    with capsys.disabled():
        print(f"\nfaults {total}")
    for deed in DEEDS:
        assert not list((tmp_path / f"run-{DEEDS.index(deed)}" / "hotreload").iterdir()), "sockets are left"
