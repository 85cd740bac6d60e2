"""``python -m hotreload.manual DIRECTORY``: builds the manual and checks its links."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from hotreload.manual import build, links


def main(directory: str) -> int:
    """Returns the exit code: 1 when a link leads nowhere."""
    rust = shutil.which("cargo") is not None
    first = build(Path(directory), Path.cwd(), rust=rust)
    dead = links.dead(first.parent)
    for fault in dead:
        sys.stderr.write(f"dead link: {fault}\n")
    if not rust:
        sys.stdout.write("without the Rust reference: cargo is not here\n")
    sys.stdout.write(f"{first}\n")
    return 1 if dead else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
