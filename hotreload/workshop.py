"""A scratch copy of an example: where the demo builds and edits, so that nothing that is installed changes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hotreload.demo import Edit, Example, edited
from hotreload.errors import HotreloadError

ERROR_LINES = 12
"""How much of a failed build's output goes into the error."""


class Workshop:
    """A copy of an example that is edited and built.

    Args:
        example: What to copy.
        examples: The directory of the examples as shipped.
        rust: The directory of the Rust crate.
        directory: Where to put the copy; the directory must not exist.

    Raises:
        HotreloadError: The example is not part of this installation, or the copy cannot be written.
    """

    def __init__(self, example: Example, examples: Path, rust: Path, directory: Path) -> None:
        self.example = example
        self.directory = directory
        # Host and modules refuse what others may write to, whatever the user's umask says.
        before = os.umask(0o022)
        try:
            shutil.copytree(examples / example.name, directory, ignore=shutil.ignore_patterns("build", "target"))
        except OSError as error:
            fix = "install hotreload-native again, or give TMPDIR a directory that you can write to"
            raise HotreloadError("E-IO", f"{example.name} cannot be copied: {error}", fix=fix) from error
        finally:
            os.umask(before)
        for manifest in directory.glob("*/Cargo.toml"):
            text = manifest.read_text(encoding="utf-8")
            manifest.write_text(text.replace("../../../shim/rust", rust.as_posix()), encoding="utf-8")
        self._shipped = self.source.read_text(encoding="utf-8")

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Makes the copy the current directory, as it is for somebody who works on the example: commands and paths stay
        short. The Makefiles then ask this very program for its flags, not a `hotreload` that the PATH may have.
        """
        before = Path.cwd()
        os.environ["HOTRELOAD"] = f"{shlex.quote(sys.executable)} -m hotreload"
        os.chdir(self.directory)
        try:
            yield
        finally:
            os.chdir(before)

    @property
    def source(self) -> Path:
        """The file that is edited."""
        return self.directory / self.example.source

    @property
    def module(self) -> Path:
        """The build output."""
        return self.directory / self.example.module

    def prepare(self) -> None:
        """Builds host and module, inside `entered`, so that nothing is missing later.

        Raises:
            HotreloadError: A build tool is missing, or fails; its last lines are what was found.
        """
        for command in self.example.prepare:
            try:
                done = subprocess.run(
                    command,
                    cwd=self.directory,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    errors="replace",
                    check=False,
                )
            except FileNotFoundError as error:
                fix = f"install {command[0]}, or name another example with --example"
                raise HotreloadError("E-IO", f"{command[0]} is not installed", fix=fix) from error
            if done.returncode != 0:
                found = "\n".join(done.stdout.splitlines()[-ERROR_LINES:])
                raise HotreloadError("E-IO", f"{self.example.name} does not build: {shlex.join(command)}", found=found)

    def write(self, edits: tuple[Edit, ...]) -> None:
        """Saves the source as shipped with these edits, by a rename, as editors do: nobody compiles half of it."""
        draft = self.source.with_name(f".{self.source.name}.draft")
        draft.write_text(edited(self._shipped, edits), encoding="utf-8")
        draft.replace(self.source)

    def cut(self, share: float) -> None:
        """Overwrites the module in place with its first ``share``, by a single write."""
        whole = self.module.read_bytes()
        self.module.write_bytes(whole[: int(len(whole) * share)])
