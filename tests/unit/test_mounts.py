"""The table of mounted file systems, and which of them other machines share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hotreload import mounts

TABLE = (
    "21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    "40 21 0:50 / /net rw - nfs4 server:/export rw,vers=4.2\n"
    "41 21 0:51 / /mnt/a\\040-\\040b rw,noexec shared:2 master:3 - fuse.sshfs me@there: rw\n"
    "a damaged line\n"
)


@pytest.mark.parametrize(
    ("device", "kind", "remote"),
    [("0:50", "nfs4", True), ("0:51", "fuse.sshfs", True), ("254:0", "ext4", False), ("9:9", "", False)],
)
def test_file_system_of_a_device(device: str, kind: str, remote: bool) -> None:
    found = mounts.on_device(device, mounts.parse(TABLE))
    assert (found.kind, found.remote) == (kind, remote)


def test_options_of_the_mount_and_of_the_file_system() -> None:
    found = {mount.device: mount.options for mount in mounts.parse(TABLE)}
    assert found["0:51"] == {"rw", "noexec"} and found["0:50"] == {"rw", "vers=4.2"}


def test_this_file_system_is_found_in_the_real_table(tmp_path: Path) -> None:
    assert mounts.mount_of(Path("/proc")).kind == "proc"
    device = tmp_path.stat().st_dev
    assert mounts.mount_of(tmp_path).device == f"{os.major(device)}:{os.minor(device)}"
    assert not mounts.mount_of(tmp_path).remote
