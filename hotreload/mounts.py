"""Mounted file systems, and what they do to watching and staging."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

REMOTE_TYPES = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "virtiofs", "vboxsf", "prl_fs", "afs", "ceph"})
"""File systems that other machines change without an inotify event here; ``fuse*`` belongs to them too."""


@dataclass(frozen=True, slots=True)
class Mount:
    """A mounted file system: its device ("major:minor"), its type, "" where that is unknown, and its options."""

    device: str
    kind: str
    options: frozenset[str] = frozenset()

    @property
    def remote(self) -> bool:
        """Others may change its files without a word to this kernel."""
        return self.kind in REMOTE_TYPES or self.kind.startswith("fuse")


def mount_of(path: Path) -> Mount:
    """The file system that holds an existing path. Raises OSError."""
    device = path.stat().st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    mounts = parse(Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace"))
    return on_device(number, mounts)


def on_device(number: str, mounts: Sequence[Mount]) -> Mount:
    """The first of the mounts that shows this device."""
    return next((mount for mount in mounts if mount.device == number), Mount(number, ""))


def parse(mountinfo: str) -> list[Mount]:
    """The mounts that the text of proc(5)'s mountinfo lists."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, described = before.split(), after.split()
        if len(fields) > 5 and described:
            found.append(Mount(fields[2], described[0], frozenset([*fields[5].split(","), *described[-1].split(",")])))
    return found
