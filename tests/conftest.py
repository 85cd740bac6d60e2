"""What tests of every folder use: compilers, tools that may be missing, and real patch modules."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import pytest

if TYPE_CHECKING:
    from integration.harness import Bench

ROOT = Path(__file__).resolve().parents[1]

# A shell without job control starts what runs in the background with Ctrl-C ignored, and all its children inherit that.
for _number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGTERM):
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL)

# A socket's path holds 107 bytes: some users' TMPDIR leaves no room for it, neither for us nor for what we start.
if len(tempfile.gettempdir()) > 30:
    os.environ["TMPDIR"] = tempfile.tempdir = "/tmp"
INCLUDE = ROOT / "shim" / "include"

RequireTool = Callable[..., Path]


def skip_here(missing: str) -> NoReturn:
    """Skips what cannot run on this machine for want of something; in CI (``CI=true``) it fails instead: a test that is
    skipped there is one that nobody runs."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{missing}; CI has to offer it")
    pytest.skip(missing, allow_module_level=True)


def require_module(name: str) -> Any:
    """Imports what an extra of pyproject.toml brings; where it is missing, as `skip_here`."""
    try:
        return import_module(name)
    except ImportError as error:
        skip_here(f"needs {name}: {error}")


plain_checkout = pytest.mark.skipif(
    len(str(ROOT).split()) > 1, reason="a shell takes $(hotreload config ...) apart where the path has spaces"
)

# What examples and DESIGN.md recommend: hidden visibility and -Bsymbolic keep modules apart from each other.
MODULE_FLAGS = ("-shared", "-fPIC", "-O2", "-fvisibility=hidden", "-Wl,-Bsymbolic", "-Wl,--build-id")


LONGEST = ("test_newcomer.py", "test_rust.py", "test_torture.py", "test_layout_rust.py", "test_config.py")
"""Files of few tests that take a minute or two. Last, where xdist puts them, workers without work wait for them; first,
all other files fill up the time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest first (``--no-loadscope-reorder`` keeps it so), else as they were."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


class BuildModule(Protocol):
    """The `build_module` fixture."""

    def __call__(
        self,
        name: str,
        version: int,
        body: str,
        patches: Mapping[str, str] | None = ...,
        *,
        compiler: str | None = ...,
        flags: Sequence[str] = ...,
        output: Path | None = ...,
    ) -> Path: ...


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def require_tool() -> RequireTool:
    """Returns ``require(*names)``: the path of the first program found.

    Without any, as `skip_here`; .ci/run installs them.
    """

    def require(*names: str) -> Path:
        for name in names:
            found = shutil.which(name)
            if found is not None:
                return Path(found)
        skip_here(f"needs {' or '.join(names)}")

    return require


@pytest.fixture(scope="session")
def cc(require_tool: RequireTool) -> str:
    """The C compiler: ``$CC``, else gcc or clang."""
    return os.environ.get("CC") or str(require_tool("gcc", "clang"))


@pytest.fixture(scope="session")
def cxx(require_tool: RequireTool) -> str:
    """The C++ compiler: ``$CXX``, else g++ or clang++."""
    return os.environ.get("CXX") or str(require_tool("g++", "clang++"))


def compile_to(output: Path, command: Sequence[str | Path]) -> Path:
    """Runs a compiler with ``-o output``; its messages are the failure's text."""
    output.parent.mkdir(parents=True, exist_ok=True)
    done = subprocess.run([*command, "-o", output], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.fail(f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}", pytrace=False)
    # Not left to the umask: a group-writable module is refused (E-DENIED).
    output.chmod(0o755)
    return output


@pytest.fixture
def build_module(tmp_path: Path, cc: str) -> BuildModule:
    """Returns ``build(name, version, body, patches, compiler=, flags=, output=)``, which builds a real patch module.

    ``body`` is C after ``#include <hotreload/patch.h>``, ``patches`` maps slot symbols to its functions. Without
    ``patches``, ``body`` is expected to hold the HR_MODULE itself. ``output`` is ``tmp_path/<name>-<version>.so``
    unless given; ``flags`` follow the usual ones and so override them. ::

        build_module("counter", 2, ADD, {"counter.add": "add"})
    """

    def build(
        name: str,
        version: int,
        body: str,
        patches: Mapping[str, str] | None = None,
        *,
        compiler: str | None = None,
        flags: Sequence[str] = (),
        output: Path | None = None,
    ) -> Path:
        target = output or tmp_path / f"{name}-{version}.so"
        source = tmp_path / "modules" / f"{name}-{version}.c"
        source.parent.mkdir(exist_ok=True)
        source.write_text(module_source(name, version, body, patches), encoding="utf-8")
        return compile_to(target, [compiler or cc, *MODULE_FLAGS, "-I", INCLUDE, *flags, source])

    return build


def module_source(name: str, version: int, body: str, patches: Mapping[str, str] | None = None) -> str:
    """The C source that `build_module` compiles."""
    text = f"#include <hotreload/patch.h>\n{body}\n"
    if patches:
        entries = ", ".join(f'HR_PATCH("{symbol}", {function})' for symbol, function in patches.items())
        text += f'HR_MODULE("{name}", {version}, {entries})\n'
    return text


@pytest.fixture(scope="session")
def host_program(tmp_path_factory: pytest.TempPathFactory, cc: str) -> Path:
    """The host that the integration tests start, built once with this checkout's shim."""
    from integration.harness import build_host

    return build_host(tmp_path_factory.mktemp("host"), cc)


@pytest.fixture
def runtime_home() -> Iterator[Path]:
    """A private directory for XDG_RUNTIME_DIR. Not below pytest's, whose name may be longer than a socket's path."""
    with tempfile.TemporaryDirectory(prefix="hr-", ignore_cleanup_errors=True) as name:
        yield Path(name)


@pytest.fixture
def bench(tmp_path: Path, cc: str, host_program: Path) -> Iterator[Bench]:
    """A world of its own for hosts, watchers and modules; everything that was started in it is ended."""
    from integration.harness import bench_in

    # Not below pytest's directory, whose name may be longer than a socket's path can be.
    with bench_in(Path(tempfile.mkdtemp(prefix="hr-")), tmp_path, cc, host_program) as made:
        yield made


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """What a newcomer needs (integration/test_newcomer.py), and the sum over all languages."""
    told = [
        value
        for outcome in ("passed", "failed")
        for report in terminalreporter.stats.get(outcome, [])
        for name, value in getattr(report, "user_properties", [])
        if name == "newcomer"
    ]
    if not told:
        return
    terminalreporter.section("from an empty directory to the first live edit")
    for language, commands, seconds, after in sorted(told, key=lambda each: each[2]):
        terminalreporter.line(
            f"{language:8} {commands} commands  {seconds:6.1f} s, {after:5.2f} s of it after the save"
        )
    commands, seconds = sum(each[1] for each in told), sum(each[2] for each in told)
    terminalreporter.line(f"{'all':8} {commands} commands  {seconds:6.1f} s")
