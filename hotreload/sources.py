"""Where the shim's headers, sources and libraries are, and the compiler flags that follow.

Two layouts hold the same files: a wheel carries them in ``hotreload/shim``, a checkout has them in ``shim`` beside the
package. A checkout wins where both are there (an editable install), so that what is edited is what is built.
"""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hotreload.errors import HotreloadError

_SYSTEM_LIBRARIES = ("-pthread", "-ldl")
_PACKAGE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Shim:
    """The shim's files, all paths absolute."""

    include: Path
    """To be searched for ``<hotreload/hotreload.h>``."""
    sources: tuple[Path, ...]
    """All C files to compile into a host instead of linking the archive."""
    cmake: Path
    """For ``-Dhotreload_DIR=``: holds ``hotreloadConfig.cmake``."""
    rust: Path
    """The Rust crate."""
    archive: Path | None
    """``libhotreload.a``, position independent; None in a checkout that has not been installed."""

    def pkg_config(self) -> Path:
        """The directory that holds ``hotreload.pc``.

        Raises:
            HotreloadError: ``E-IO`` when there is none.
        """
        found = self.archive.parent / "pkgconfig" if self.archive else None
        if found is None or not found.is_dir():
            raise HotreloadError(
                "E-IO", "hotreload.pc has not been built", fix="install the package (pip install -e .)"
            )
        return found

    def cflags(self) -> list[str]:
        """Flags to compile a host, or the sources."""
        return [f"-I{self.include}", "-pthread"]

    def system_libs(self) -> list[str]:
        """Flags to link a host that compiles the sources."""
        return list(_SYSTEM_LIBRARIES)

    def libs(self) -> list[str]:
        """Flags to link a host with the archive.

        Raises:
            HotreloadError: ``E-IO`` when there is none.
        """
        if self.archive is None:
            raise HotreloadError(
                "E-IO",
                "libhotreload.a has not been built for this checkout",
                fix="add --sources to compile the shim into the host, or install the package (pip install -e .)",
            )
        return [str(self.archive), *_SYSTEM_LIBRARIES]


def shim() -> Shim:
    """Finds the shim's files.

    Raises:
        HotreloadError: ``E-IO`` when they are in neither place.
    """
    for root in (_PACKAGE.parent / "shim", _PACKAGE / "shim"):
        if (root / "include" / "hotreload" / "hotreload.h").is_file():
            return _shim_in(root)
    raise HotreloadError(
        "E-IO",
        "the shim's headers are missing from this installation",
        found=f"nothing in {_PACKAGE / 'shim'}",
        fix="install hotreload-native again",
    )


def for_builds(environment: Mapping[str, str]) -> dict[str, str]:
    """Variables by which build tools find this very installation: Makefiles of the templates, CMake, and pkg-config
    (Meson asks it). What the user has set wins.

    Args:
        environment: Of the process.
    """
    found = shim()
    variables = {"HOTRELOAD": f"{shlex.quote(sys.executable)} -m hotreload", "hotreload_DIR": str(found.cmake)}
    variables = {name: value for name, value in variables.items() if name not in environment}
    directory = str(found.archive.parent / "pkgconfig") if found.archive else ""
    paths = [path for path in environment.get("PKG_CONFIG_PATH", "").split(os.pathsep) if path]
    if directory and directory not in paths:
        variables["PKG_CONFIG_PATH"] = os.pathsep.join([*paths, directory])
    return variables


def examples() -> Path:
    """The directory of the examples that ``hotreload demo`` copies."""
    return _shipped("examples")


def templates() -> Path:
    """The directory of the templates that ``hotreload new`` copies."""
    return _shipped("templates")


def _shim_in(root: Path) -> Shim:
    built = root / "lib" / "cmake" / "hotreload"
    return Shim(
        include=root / "include",
        sources=tuple(sorted((root / "src").glob("*.c"))),
        cmake=built if built.is_dir() else root / "cmake",
        rust=root / "rust",
        archive=_archive(root),
    )


def _archive(root: Path) -> Path | None:
    # An editable install leaves what was built in site-packages, which is then a further place of this package.
    places = (root, *(Path(place) / "shim" for place in sys.modules[__package__].__path__))
    candidates = (place / "lib" / "libhotreload.a" for place in places)
    return next((path for path in candidates if path.is_file()), None)


def _shipped(name: str) -> Path:
    for path in (_PACKAGE.parent / name, _PACKAGE / name):
        if _belongs(path):
            return path
    raise HotreloadError("E-IO", f"the {name} are missing from this installation", fix="install hotreload-native again")


def _belongs(path: Path) -> bool:
    # site-packages may hold somebody else's "examples": a checkout's lies beside our pyproject.toml.
    return path.is_dir() and (path.parent == _PACKAGE or (path.parent / "pyproject.toml").is_file())
