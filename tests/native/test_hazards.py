"""The hazards of DESIGN.md section 6 that the shim handles, with real hosts and real modules.

Each hazard has its counter-proof beside it: the same sequence in a host without the handling, by bare ``dlopen``, does
return old code, run new bytes or die. Then come what a host must survive besides: transactions, hooks, safe points,
permissions, limits, and the files that dead processes leave.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cbuild
import pytest
from driver import (
    ABORT,
    COMMIT,
    LOAD,
    MAGIC,
    MESSAGE,
    POLL,
    PREPARE,
    ROLLBACK,
    SAFE_POINT,
    STATUS,
    VERSION,
    WAIT_S,
    Client,
    Json,
    Program,
    paths,
    rollback,
)

NOBODY = 65534
OK, DENIED = 0, 11

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="acts as two users, which takes root")


@dataclass(frozen=True)
class Programs:
    """The built hosts."""

    shim: cbuild.Shim
    host: Path
    viewer: Path


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory, cc: str) -> Programs:
    directory = tmp_path_factory.mktemp("shim")
    shim = cbuild.build_shim(directory / "lib")
    return Programs(
        shim,
        shim.host(cbuild.HOSTS / "host.c", directory / "host"),
        shim.host(cbuild.HOSTS / "viewer.c", directory / "viewer"),
    )


class Bench:
    """What a test needs at hand: modules to build, hosts to start, and the directories that these hosts use.

    The directories are short and not below pytest's, whose names are longer than a socket's may be.
    """

    def __init__(self, programs: Programs, directory: Path, modules: Path) -> None:
        self.programs = programs
        self.run = directory / "run"
        self.state = directory / "state"
        self.modules = modules
        self.run.mkdir(mode=0o700)
        self.state.mkdir(mode=0o700)
        self.environment = {
            "XDG_RUNTIME_DIR": str(self.run),
            "XDG_STATE_HOME": str(self.state),
            "MALLOC_PERTURB_": "165",  # freed memory is never what it was: a use after free shows
        }
        self.started: list[Program] = []

    def module(
        self,
        version: int,
        entries: dict[str, str] | None = None,
        *,
        name: str = "m",
        output: str = "",
        flags: tuple[str, ...] = (),
        on_load: str = "",
        on_unload: str = "",
        extra: str = "",
    ) -> Path:
        """Builds a module; by default its slot ``a`` returns its version."""
        source = cbuild.module_source(
            name,
            version,
            entries or {"a": f"return {version};"},
            on_load=on_load,
            on_unload=on_unload,
            extra=extra,
        )
        return cbuild.build_module(self.modules / (output or f"{name}-{version}.so"), source, *flags)

    def host(self, *commands: str) -> Program:
        """Starts a host and runs commands in it."""
        program = Program([self.programs.host], self.environment)
        self.started.append(program)
        for command in commands:
            assert succeeded(program.ask(command)), command
        return program

    def viewer(self, host: Program) -> Program:
        """Starts a viewer of a host that is served."""
        program = Program([self.programs.viewer, self.socket(host)], self.environment)
        self.started.append(program)
        return program

    def socket(self, host: Program) -> Path:
        return self.run / "hotreload" / f"{host.pid}.sock"

    def staged(self, host: Program) -> Path:
        return self.state / "hotreload" / str(host.pid)

    def bare(self, *commands: str) -> Json | int:
        """Runs commands in a host of its own; the last answer, or the signal that killed it (negative)."""
        program = self.host()
        answer: Json = {}
        try:
            for command in commands:
                answer = program.ask(command)
        except (AssertionError, BrokenPipeError):
            return program.end()
        return answer


@pytest.fixture
def bench(programs: Programs, tmp_path: Path) -> Iterator[Bench]:
    directory = Path(tempfile.mkdtemp(prefix="hr-"))
    made = Bench(programs, directory, tmp_path)
    yield made
    for program in made.started:
        program.__exit__(None, None, None)
    shutil.rmtree(directory, ignore_errors=True)


def succeeded(answer: object) -> bool:
    return not isinstance(answer, dict) or answer.get("code", "ok") == "ok"


def load(host: Program, module: Path) -> Json:
    answer: Json = host.ask(f"load {module}")
    assert answer["code"] == "ok", answer
    return answer


def call(host: Program, symbol: str = "a", times: int = 1) -> int:
    return int(host.ask(f"call {symbol} {times}")["result"])


def code(answer: Json) -> str:
    return str(answer["code"])


def until(true: Callable[[], bool], what: str) -> None:
    """Waits for what must become true; only a failure takes long."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.002)


def mapped(host: Program) -> list[str]:
    """The files that the host has mapped executable."""
    lines = Path(f"/proc/{host.pid}/maps").read_text().splitlines()
    return [line.split(maxsplit=5)[5] for line in lines if "x" in line.split()[1] and len(line.split(maxsplit=5)) > 5]


# ---- H1, H2, H3: what happens to a path that was loaded ----


@pytest.mark.parametrize("how", ["rename", "write", "hard link"])
def test_h1_a_path_loaded_again_runs_the_new_code(bench: Bench, how: str) -> None:
    first, second, path = bench.module(1), bench.module(2), bench.modules / "built.so"
    host = bench.host("declare a")
    replace(first, path, "rename")
    load(host, path)
    assert call(host) == 1
    replace(second, path, how)
    load(host, path)
    assert call(host) == 2


@pytest.mark.parametrize("how", ["rename", "hard link"])
def test_h1_bare_dlopen_runs_the_old_code(bench: Bench, how: str) -> None:
    first, second, path = bench.module(1), bench.module(2), bench.modules / "built.so"
    host = bench.host()
    replace(first, path, "rename")
    assert host.ask(f"dlopen {path}")["result"] == 1
    replace(second, path, how)
    assert host.ask(f"dlopen {path}")["result"] == 1


def replace(source: Path, path: Path, how: str) -> None:
    """Puts a build at a path, as linkers, editors and cargo do."""
    if how == "write":
        path.write_bytes(source.read_bytes())
        return
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    if how == "hard link":
        new.hardlink_to(source)
    else:
        shutil.copy2(source, new)
    new.rename(path)


def test_h2_a_loaded_output_may_be_truncated_and_rewritten(bench: Bench) -> None:
    path = bench.module(1, output="built.so")
    host = bench.host("declare a")
    load(host, path)
    with path.open("r+b") as file:
        file.truncate(0)
    assert call(host, times=1000) == 1
    path.write_bytes(b"\xcc" * 20_000)
    assert call(host, times=1000) == 1
    assert host.end() == 0


def test_h2_bare_dlopen_dies(bench: Bench) -> None:
    path = bench.module(1, output="built.so")
    host = bench.host()
    assert host.ask(f"dlopen {path}")["result"] == 1
    with path.open("r+b") as file:
        file.truncate(0)
    host.send(f"dlopen {path}")
    assert host.process.wait(WAIT_S) in (-signal.SIGBUS, -signal.SIGSEGV)


def test_h2_bare_dlopen_runs_rewritten_bytes(bench: Bench) -> None:
    path = bench.module(1111, output="built.so")
    host = bench.host()
    assert host.ask(f"dlopen {path}")["result"] == 1111
    old, new = (number.to_bytes(4, "little") for number in (1111, 2222))
    with path.open("r+b") as file:
        content = file.read()
        at = content.index(b"\xb8" + old)  # mov $1111, %eax
        file.seek(at + 1)
        file.write(new)
    assert host.ask(f"dlopen {path}")["result"] == 2222


def cuts(path: Path) -> list[bytes]:
    content = path.read_bytes()
    return [content[: len(content) * part // 25] for part in range(1, 25)]


def test_h3_a_truncated_module_is_refused(bench: Bench) -> None:
    whole, path = bench.module(1), bench.modules / "cut.so"
    host = bench.host("declare a")
    load(host, bench.module(2))
    for content in cuts(whole):
        path.write_bytes(content)
        answer = host.ask(f"load {path}")
        assert code(answer) in ("E-TRUNCATED", "E-NOT-ELF"), answer
        assert answer["fix"] and answer["reason"]
    assert call(host) == 2
    assert host.ask("generation")["result"] == 1


def test_h3_bare_dlopen_dies_of_a_truncated_module(bench: Bench) -> None:
    whole, path = bench.module(1), bench.modules / "cut.so"
    deaths = 0
    for content in cuts(whole):
        path.write_bytes(content)
        deaths += isinstance(bench.bare(f"dlopen {path}"), int)
    assert deaths > 0


# ---- H8, H10, H11, H12: what is in a module, and where it is mapped from ----

STATIC_TLS = 'static __thread char big[400] __attribute__((tls_model("initial-exec")));'
TOUCH_TLS = "big[state->value % 400]++; return (int32_t)sizeof big + big[7];"


def test_h8_static_tls_is_refused(bench: Bench) -> None:
    path = bench.module(1, {"a": TOUCH_TLS}, extra=STATIC_TLS)
    host = bench.host("declare a")
    for _ in range(40):
        answer = host.ask(f"load {path}")
        assert code(answer) == "E-STATIC-TLS" and "-ftls-model" in answer["fix"], answer
    assert call(host) == 0


def test_h8_bare_dlopen_runs_out_of_static_tls(bench: Bench) -> None:
    path = bench.module(1, {"a": TOUCH_TLS}, extra=STATIC_TLS)
    host = bench.host()
    for number in range(200):
        copy = path.with_name(f"copy-{number}.so")
        shutil.copy2(path, copy)
        answer = host.ask(f"dlopen {copy}")
        if "error" in answer:
            assert "static TLS" in answer["error"]
            return
    pytest.fail("200 modules with static TLS were loaded")


def test_h8_other_thread_local_storage_is_welcome(bench: Bench) -> None:
    host = bench.host("declare a")
    for version in range(1, 60):
        extra = "static __thread char big[400];"
        path = bench.module(version, {"a": f"big[7]++; return {version};"}, extra=extra, output="tls.so")
        load(host, path)
        assert call(host) == version


def constructor(mark: Path) -> str:
    return (
        "#include <fcntl.h>\n#include <unistd.h>\n__attribute__((constructor)) static void early(void) {\n"
        f'    close(open("{mark}", O_CREAT | O_WRONLY, 0600));\n}}'
    )


def break_magic(path: Path) -> None:
    magic, content = (0x48505431).to_bytes(4, "little"), path.read_bytes()
    assert content.count(magic) == 1
    path.write_bytes(content.replace(magic, b"\xff" * 4))


def test_h10_nothing_runs_of_a_module_that_is_refused(bench: Bench) -> None:
    mark = bench.modules / "mark"
    path = bench.module(1, extra=constructor(mark))
    break_magic(path)
    host = bench.host("declare a")
    answer = host.ask(f"load {path}")
    assert code(answer) == "E-ABI"
    assert "0x48505431" in answer["expected"].lower() and "0xffffffff" in answer["found"].lower()
    assert not mark.exists()


def test_h10_bare_dlopen_runs_it(bench: Bench) -> None:
    mark = bench.modules / "mark"
    path = bench.module(1, extra=constructor(mark))
    break_magic(path)
    bench.bare(f"dlopen {path}")
    assert mark.exists()


def test_h11_h12_code_is_mapped_from_files_that_stay(bench: Bench) -> None:
    host = bench.host("declare a")
    staged = []
    for version in (1, 2, 3):
        path = bench.module(version, output="built.so")
        staged.append(Path(load(host, path)["staged"]))
        path.unlink()
    files = mapped(host)
    for copy in staged:
        assert copy.is_file() and copy.stat().st_mode & 0o777 == 0o500
        assert str(copy) in files  # retired ones too: a backtrace may still go through them
    assert len(set(staged)) == 3
    assert not any("(deleted)" in name or "memfd:" in name for name in files)
    assert host.end() == 0
    assert not any(copy.exists() for copy in staged)
    assert not bench.staged(host).exists()


def test_h11_bare_dlopen_maps_a_deleted_file(bench: Bench) -> None:
    path = bench.module(1)
    host = bench.host()
    host.ask(f"dlopen {path}")
    path.unlink()
    assert f"{path} (deleted)" in mapped(host)


def test_h12_a_reused_descriptor_path_returns_old_code(bench: Bench) -> None:
    first, second = bench.module(1), bench.module(2)
    host = bench.host()
    assert host.ask(f"dlopenfd {first}")["result"] == 1
    assert host.ask(f"dlopenfd {second}")["result"] == 1


# ---- H14: a host that forks ----


def test_h14_a_forked_child_is_its_own(bench: Bench) -> None:
    host = bench.host("declare a", "declare late", "serve parent")
    load(host, bench.module(1))
    viewer = bench.viewer(host)
    call(host, times=10)
    before = viewer.ask("")
    assert before["slots"]["a"]["calls"] == 10

    answer = host.ask("fork call a 500; threads 3 a 70; call late 9; generation")
    child = answer["pid"]
    assert answer["lines"][0]["result"] == 1 and answer["lines"][3]["result"] == 1
    assert answer["exit"] == 0
    assert not (bench.run / "hotreload" / f"{child}.sock").exists()

    after = viewer.ask("")
    assert after["slots"]["a"]["calls"] == 10 and after["slots"]["late"]["calls"] == 0
    assert after["state"] == before["state"] and after["pid"] == host.pid
    assert bench.socket(host).is_socket() and bench.staged(host).is_dir()
    assert call(host) == 1
    with Client(bench.socket(host)) as client:
        assert client.request(LOAD, paths(bench.module(2))).status == OK
    assert call(host) == 2


def test_h14_a_child_may_be_served_itself(bench: Bench) -> None:
    host = bench.host("declare a", "serve parent")
    load(host, bench.module(1))
    call(host, times=10)
    # The child serves, is loaded into and ends while its parent goes on.
    script = f"serve child; load {bench.module(2)}; call a; generation"
    answer = host.ask(f"fork {script}")
    served, loaded, called, generation = answer["lines"][:4]
    assert served["code"] == "ok" and served["pid"] == answer["pid"]
    assert loaded["code"] == "ok" and called["result"] == 2 and generation["result"] == 2
    assert answer["exit"] == 0
    assert call(host) == 1 and host.ask("generation")["result"] == 1
    assert bench.socket(host).is_socket()
    assert not (bench.run / "hotreload" / f"{answer['pid']}.sock").exists()
    assert not (bench.state / "hotreload" / str(answer["pid"])).exists()
    assert Path(host.ask(f"load {bench.module(3)}")["staged"]).is_file()


def test_h14_a_fork_inside_a_call_leaves_the_parents_counters_alone(bench: Bench) -> None:
    host = bench.host("declare a", "declare f fork", "declare b block", "serve parent")
    viewer = bench.viewer(host)
    host.ask("hold b")
    answer = host.ask("forkin f call a 500; call a 1; generation")
    assert answer["exit"] == 0 and answer["signal"] == 0
    seen = viewer.ask("")["slots"]
    assert (seen["a"]["calls"], seen["f"]["calls"], seen["b"]["calls"]) == (0, 1, 1)
    assert (seen["f"]["in_flight"], seen["b"]["in_flight"]) == (0, 1)
    host.ask("release")


def test_h14_a_frame_goes_on_in_the_child(bench: Bench) -> None:
    """The child's own reclaimer must know that the thread which forked still holds a table."""
    first, second, third = (bench.module(version) for version in (1, 2, 3))
    host = bench.host("declare a")
    load(host, first)
    host.ask("frame begin")
    answer = host.ask(f"fork load {second}; load {third}; symbols; frame a; call a; frame end")
    assert answer["exit"] == 0 and answer["signal"] == 0, answer
    assert answer["lines"][3]["result"] == 1
    assert answer["lines"][4]["result"] == 3
    assert host.ask("frame a")["result"] == 1


# ---- H15: the tool dies at any step ----


def pair(version: int, bench: Bench, **more: str) -> Path:
    entries = {"x": f"return {version};", "y": f"return {version};"}
    return bench.module(version, entries, name="pair", **more)  # type: ignore[arg-type]


def test_h15_a_prepared_transaction_ends_with_its_connection(bench: Bench) -> None:
    host = bench.host("declare x", "declare y", "serve host")
    hooks = {"on_load": "state->loads++; return 0;", "on_unload": "state->unloads++; return 0;"}
    first = pair(1, bench, **hooks)
    client = Client(bench.socket(host))
    assert client.request(PREPARE, paths(first)).status == OK
    assert host.ask("state") == {"loads": 1, "unloads": 0, "inside": 0, "value": 0}
    client.close()
    until(lambda: host.ask("state")["unloads"] == 1, "on_unload after the abort")
    assert call(host, "x") == 0 and host.ask("generation")["result"] == 0
    with Client(bench.socket(host)) as other:
        assert other.request(COMMIT).status == 27  # nothing is prepared on this connection
        assert other.request(LOAD, paths(first)).status == OK
    assert (call(host, "x"), call(host, "y")) == (1, 1)


@pytest.mark.parametrize("wait", [0.0, 0.0003, 0.001, 0.003])
def test_h15_a_tool_that_dies_leaves_old_or_new(bench: Bench, wait: float) -> None:
    host = bench.host("declare x", "declare y", "serve host")
    for version in range(1, 9):
        module = pair(version, bench)
        client = Client(bench.socket(host))
        client.send(LOAD, paths(module))
        time.sleep(wait)
        client.close()
        seen = call(host, "x"), call(host, "y")
        assert seen[0] in (version - 1, version) and seen[1] in (seen[0], version)
        until(lambda: call(host, "x") == version, "the load that was asked for")  # noqa: B023
        assert call(host, "y") == version
    assert host.ask("generation")["result"] == 8


@pytest.mark.parametrize("length", [1, 8, 15, 16, 17, 1000])
def test_h15_half_a_request_changes_nothing(bench: Bench, length: int) -> None:
    host = bench.host("declare x", "declare y", "serve host")
    module = pair(1, bench)
    body = paths(module)
    with Client(bench.socket(host)) as client:
        client.socket.sendall((MESSAGE.pack(MAGIC, VERSION, LOAD, len(body), 1) + body)[:length])
    with Client(bench.socket(host)) as other:  # the host is not stuck in the other's request
        assert other.request(LOAD, paths(module)).status == OK
    assert host.ask("generation")["result"] == 1


@pytest.mark.parametrize(
    "garbage",
    [b"GET / HTTP/1.1\r\n\r\n" * 4, b"\0" * 64, b"\xff" * 4096],
    ids=["http", "zeros", "ones"],
)
def test_h15_garbage_is_dropped(bench: Bench, garbage: bytes) -> None:
    host = bench.host("declare a", "serve host")
    with Client(bench.socket(host)) as client:
        client.socket.sendall(garbage)
        with pytest.raises(ConnectionError):
            client.receive()
    with Client(bench.socket(host)) as other:
        assert other.request(LOAD, paths(bench.module(1))).status == OK


# ---- H16: the host dies at any step ----


def test_h16_a_dead_hosts_box_can_be_read_and_its_files_go_at_the_next_start(bench: Bench) -> None:
    host = bench.host("declare a", "serve first")
    load(host, bench.module(1))
    viewer = bench.viewer(host)
    assert viewer.ask("")["pid"] == host.pid
    call(host, times=12)
    host.kill()
    seen = viewer.ask("")
    assert seen["name"] == "first" and seen["pid"] == host.pid
    assert seen["slots"]["a"]["version"] == 1 and seen["slots"]["a"]["calls"] == 12
    assert [event["event"] for event in seen["events"]][-1] in ("swap", "serve", "called")

    assert bench.socket(host).exists() and bench.staged(host).is_dir()  # nobody could remove them
    successor = bench.host("declare a", "serve second")
    load(successor, bench.module(2))
    assert not bench.socket(host).exists() and not bench.staged(host).exists()
    assert bench.socket(successor).is_socket() and bench.staged(successor).is_dir()


def test_h16_a_host_killed_while_it_loads_leaves_a_readable_box(bench: Bench) -> None:
    modules = [pair(version, bench) for version in (1, 2, 3)]
    for attempt in range(12):
        host = bench.host("declare x", "declare y", "serve host")
        viewer = bench.viewer(host)
        viewer.ask("")
        for module in modules:
            host.send(f"load {module}")
        time.sleep(0.0005 * attempt)
        host.kill()
        seen = viewer.ask("")["slots"]
        assert seen["x"]["version"] in range(4) and seen["y"]["version"] in range(4)
        viewer.end()
    last = bench.host("declare x", "declare y", "serve host")
    load(last, modules[0])
    assert [path.name for path in (bench.run / "hotreload").iterdir()] == [f"{last.pid}.sock"]
    assert [path.name for path in (bench.state / "hotreload").iterdir()] == [str(last.pid)]


def test_h16_an_orderly_end_leaves_nothing(bench: Bench) -> None:
    host = bench.host("declare a", "serve host")
    load(host, bench.module(1))
    viewer = bench.viewer(host)
    viewer.ask("")
    assert host.end() == 0
    assert viewer.ask("")["state"] == 2  # HR_HOST_EXITED
    assert list((bench.run / "hotreload").iterdir()) == []
    assert list((bench.state / "hotreload").iterdir()) == []


# ---- E-DENIED ----


@pytest.mark.parametrize(
    ("what", "mode"),
    [("file", 0o775), ("file", 0o757), ("directory", 0o775), ("directory", 0o757)],
)
def test_what_others_can_write_is_denied(bench: Bench, what: str, mode: int) -> None:
    directory = bench.modules / "out"
    directory.mkdir()
    path = bench.module(1, output="out/m.so")
    (path if what == "file" else directory).chmod(mode)
    host = bench.host("declare a")
    answer = host.ask(f"load {path}")
    assert code(answer) == "E-DENIED" and answer["fix"] and answer["found"], answer
    (path if what == "file" else directory).chmod(0o755)
    load(host, path)


def test_a_link_into_a_directory_of_others_is_denied(bench: Bench) -> None:
    directory = bench.modules / "out"
    directory.mkdir()
    path = bench.module(1, output="out/m.so")
    directory.chmod(0o777)
    link = bench.modules / "link.so"
    link.symlink_to(path)
    assert code(bench.host("declare a").ask(f"load {link}")) == "E-DENIED"


def test_a_sticky_directory_is_no_danger(bench: Bench) -> None:
    """/tmp: everybody may write, nobody may replace another user's file."""
    directory = bench.modules / "out"
    directory.mkdir()
    path = bench.module(1, output="out/m.so")
    directory.chmod(0o1777)
    load(bench.host("declare a"), path)


@as_root
def test_a_file_of_another_user_is_denied(bench: Bench) -> None:
    path = bench.module(1)
    os.chown(path, NOBODY, NOBODY)
    answer = bench.host("declare a").ask(f"load {path}")
    assert code(answer) == "E-DENIED" and "chown" in answer["fix"]


@pytest.mark.parametrize("kind", ["directory", "fifo", "absent"])
def test_what_is_no_file_is_refused_at_once(bench: Bench, kind: str) -> None:
    path = bench.modules / "odd.so"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path, 0o600)
    assert code(bench.host("declare a").ask(f"load {path}")) == "E-IO"


def connect_as(user: int, path: Path) -> str:
    """What a process of that user gets from the socket: the number of bytes, or the name of the error."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
            with Client(path) as client:
                client.send(STATUS)
                answer = str(len(client.socket.recv(100)))
        except OSError as error:
            answer = type(error).__name__
        os.write(writer, answer.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()


@as_root
def test_another_users_process_cannot_connect(bench: Bench) -> None:
    host = bench.host("declare a", "serve host")
    path = bench.socket(host)
    assert connect_as(0, path) == "100"
    assert connect_as(NOBODY, path) == "PermissionError"
    # Should the directory ever be opened to others, the peer's credentials still are checked.
    for directory in (path.parent, bench.run, bench.run.parent):
        directory.chmod(0o755)
    path.chmod(0o777)
    assert connect_as(NOBODY, path) in ("0", "ConnectionResetError", "BrokenPipeError")
    path.parent.chmod(0o700)
    assert call(host) == 0


def test_a_runtime_directory_of_others_is_refused(bench: Bench) -> None:
    (bench.run / "hotreload").mkdir(mode=0o700)
    (bench.run / "hotreload").chmod(0o777)
    answer = bench.host("declare a").ask("serve host")
    assert code(answer) == "E-DENIED" and answer["fix"]


# ---- hooks ----

HOOKS = {"on_load": "state->loads++; return state->veto;", "on_unload": "state->unloads++; return 0;"}


def test_on_load_vetoes(bench: Bench) -> None:
    host = bench.host("declare a", "veto 0")
    load(host, bench.module(1))
    host.ask("veto 9")
    answer = host.ask(f"load {bench.module(2, **HOOKS)}")  # type: ignore[arg-type]
    assert code(answer) == "E-ON-LOAD" and "9" in answer["found"]
    assert host.ask("state")["loads"] == 1
    assert (call(host), host.ask("generation")["result"]) == (1, 1)
    host.ask("veto 0")
    load(host, bench.modules / "m-2.so")
    assert call(host) == 2


def test_on_unload_runs_once_after_the_last_call_has_left(bench: Bench) -> None:
    wait = (
        "__atomic_add_fetch(&state->inside, 1, __ATOMIC_SEQ_CST);"
        "while (!__atomic_load_n(&state->gate, __ATOMIC_SEQ_CST)) usleep(1000);"
        "__atomic_sub_fetch(&state->inside, 1, __ATOMIC_SEQ_CST); return 1;"
    )
    unload = "state->unloads++; state->value = state->inside; return 0;"
    first = bench.module(1, {"a": wait}, extra="#include <unistd.h>", on_unload=unload, flags=("-D_GNU_SOURCE",))
    host = bench.host("declare a", "serve host")
    viewer = bench.viewer(host)
    load(host, first)
    host.ask("hold a")
    load(host, bench.module(2))
    assert call(host) == 2  # a commit waits for nobody
    until(lambda: bool(viewer.ask("")["blocked_thread"]), "the thread that blocks the grace period")
    assert host.ask("state")["unloads"] == 0
    assert viewer.ask("")["slots"]["a"]["in_flight"] == 1
    host.ask("release")
    until(lambda: host.ask("state")["unloads"] == 1, "on_unload")
    assert host.ask("state")["value"] == 0
    load(host, bench.module(3))
    call(host, times=10)
    time.sleep(0.05)
    assert host.ask("state")["unloads"] == 1
    until(lambda: viewer.ask("")["blocked_thread"] == 0, "nobody blocks")


def test_hooks_of_a_module_that_comes_back(bench: Bench) -> None:
    host = bench.host("declare a", "serve host")
    load(host, bench.module(1, **HOOKS))  # type: ignore[arg-type]
    load(host, bench.module(2))
    until(lambda: host.ask("state")["unloads"] == 1, "on_unload")
    assert host.ask("rollback")["code"] == "ok"
    assert call(host) == 1
    assert host.ask("state")["loads"] == 2  # on_unload had run: what it took down is set up again


def test_a_roll_back_waits_for_the_on_unload_of_what_it_brings_back(bench: Bench) -> None:
    host = bench.host("declare a", "serve host")
    slow = "__atomic_add_fetch(&state->unloads, 1, __ATOMIC_SEQ_CST); usleep(100000); state->value = 0; return 0;"
    setup = "state->value = 1; return 0;"
    flags = ("-D_GNU_SOURCE",)
    extra = "#include <unistd.h>"
    load(host, bench.module(1, {"a": "return state->value;"}, on_load=setup, on_unload=slow, extra=extra, flags=flags))
    assert call(host) == 1
    load(host, bench.module(2))
    until(lambda: host.ask("state")["unloads"] == 1, "on_unload")
    assert code(host.ask("rollback")) == "ok"
    time.sleep(0.2)
    assert call(host) == 1  # not what on_unload takes down after on_load has set it up


# ---- transactions, kept, undeclared, same, quarantine, fallback ----


def test_several_modules_with_one_bad_swap_nothing(bench: Bench) -> None:
    host = bench.host("declare a", "declare b", "declare c")
    good = [bench.module(1, {slot: "return 1;"}, name=slot) for slot in "ab"]
    bad = bench.module(1, {"c": "return 1;"}, name="c")
    break_magic(bad)
    answer = host.ask(f"prepare {good[0]} {bad} {good[1]}")
    assert code(answer) == "E-ABI"
    assert [report["code"] for report in answer["reports"]] == ["E-ABORTED", "E-ABI", "E-ABORTED"]
    assert [call(host, slot) for slot in "abc"] == [0, 0, 0]
    assert host.ask("generation")["result"] == 0

    answer = host.ask(f"prepare {good[0]} {good[1]}")
    assert code(answer) == "ok"
    assert [call(host, slot) for slot in "ab"] == [0, 0]  # prepared is not committed
    host.ask("commit")
    assert [call(host, slot) for slot in "ab"] == [1, 1]
    assert host.ask("generation")["result"] == 1
    answer = host.ask("rollback")  # all that the newest commit brought in
    assert sorted(report["module"] for report in answer["reports"]) == ["a", "b"]
    assert [call(host, slot) for slot in "ab"] == [0, 0]


def test_abort_takes_the_preparation_back(bench: Bench) -> None:
    host = bench.host("declare a")
    assert code(host.ask(f"prepare {bench.module(1, **HOOKS)}")) == "ok"  # type: ignore[arg-type]
    host.ask("abort")
    assert host.ask("state") == {"loads": 1, "unloads": 1, "inside": 0, "value": 0}
    assert (call(host), host.ask("generation")["result"]) == (0, 0)
    load(host, bench.modules / "m-1.so")


def test_kept_and_undeclared_slots_are_told(bench: Bench) -> None:
    host = bench.host("declare a", "declare b")
    answer = load(host, bench.module(1, {"a": "return 1;", "b": "return 1;", "typo": "return 1;"}))
    assert {change["symbol"]: change["kind"] for change in answer["changes"]} == {
        "a": "swapped",
        "b": "swapped",
        "typo": "undeclared",
    }
    answer = load(host, bench.module(2, {"a": "return 2;"}))
    kinds = {change["symbol"]: (change["kind"], change["from"], change["to"]) for change in answer["changes"]}
    assert kinds == {"a": ("swapped", 1, 2), "b": ("kept", 1, 1), "typo": ("kept", 1, 1)}
    assert (call(host, "a"), call(host, "b")) == (2, 1)
    assert host.ask("symbols") == [["a", 2], ["b", 1], ["typo", 1]]
    assert code(host.ask("find typo")) == "ok" and call(host, "typo") == 1
    assert code(host.ask("declare typo")) != "E-DUPLICATE"


def test_rolling_one_version_back_leaves_what_an_earlier_one_keeps(bench: Bench) -> None:
    host = bench.host("declare a", "declare b")
    load(host, bench.module(1, {"a": "return 1;", "b": "return 1;"}))
    load(host, bench.module(2, {"a": "return 2;"}))
    assert code(host.ask("rollback m")) == "ok"
    assert (call(host, "a"), call(host, "b")) == (1, 1)


def test_same_content_is_not_swapped_again(bench: Bench) -> None:
    host = bench.host("declare a")
    path = bench.module(1)
    load(host, path)
    copy = bench.modules / "copy.so"
    shutil.copy(path, copy)
    copy.chmod(0o755)
    for output in (path, copy):
        assert code(host.ask(f"load {output}")) == "same"
    assert host.ask("generation")["result"] == 1
    load(host, bench.module(2))
    load(host, path)  # no longer live: it is a change
    assert (call(host), host.ask("generation")["result"]) == (1, 3)


def test_what_was_rolled_back_is_quarantined(bench: Bench) -> None:
    host = bench.host("declare a")
    first, second = bench.module(1), bench.module(2)
    assert code(host.ask("rollback")) == "E-NO-PREVIOUS"
    load(host, first)
    load(host, second)
    answer = host.ask("rollback")
    assert answer["code"] == "ok" and [report["version"] for report in answer["reports"]] == [2]
    assert call(host) == 1
    refused = host.ask(f"load {second}")
    assert code(refused) == "E-QUARANTINED" and refused["fix"]
    assert code(host.ask("rollback nobody")) == "E-NO-PREVIOUS"
    assert code(host.ask("rollback")) == "ok"
    assert call(host) == 0  # the fallback
    assert code(host.ask("rollback")) == "E-NO-PREVIOUS"
    assert code(host.ask(f"load {first}")) == "E-QUARANTINED"
    load(host, bench.module(3))
    assert (call(host), host.ask("generation")["result"]) == (3, 5)
    assert host.ask("symbols") == [["a", 5]]


def test_a_slot_without_implementation(bench: Bench) -> None:
    host = bench.host("declare a none")
    assert call(host) == -38
    load(host, bench.module(1))
    assert call(host) == 1
    host.ask("rollback")
    assert call(host) == -38


def test_unresolved_symbols_are_named(bench: Bench) -> None:
    extra = "extern int nowhere_to_be_found(void);"
    path = bench.module(1, {"a": "return nowhere_to_be_found();"}, extra=extra)
    host = bench.host("declare a")
    answer = host.ask(f"load {path}")
    assert code(answer) == "E-SYMBOLS" and "nowhere_to_be_found" in answer["found"], answer
    assert call(host) == 0


# ---- frames, runtimes, threads, limits ----


def test_a_frame_runs_one_generation(bench: Bench) -> None:
    host = bench.host("declare x", "declare y")
    load(host, pair(1, bench))
    host.ask("frame begin")
    assert host.ask("frame x")["result"] == 1
    load(host, pair(2, bench))
    load(host, pair(3, bench))
    assert host.ask("frame y")["result"] == 1
    assert call(host, "y") == 3  # a plain call never looks for a frame
    assert host.ask("frame x")["result"] == 1
    host.ask("frame end")
    assert call(host, "x") == 3


def test_a_frame_older_than_a_slot_does_not_run_what_had_its_index_before(bench: Bench) -> None:
    host = bench.host("declare a", "runtime 1", "declare old 7")
    host.ask("frame begin")
    host.ask("free 1")
    host.ask("declare new")
    assert call(host, "new") == 0
    assert host.ask("frame new")["result"] == 0
    host.ask("frame end")


def test_a_frame_that_began_between_two_owners_of_an_index(bench: Bench) -> None:
    host = bench.host("declare a", "runtime 1", "declare old 7")
    host.ask("free 1")
    host.ask("frame begin")
    load(host, bench.module(1))  # another table now: a late slot's entry is not written into the frame's
    host.ask("declare new 7")
    assert host.ask("frame new")["result"] == 7
    host.ask("frame end")


def test_runtimes_are_name_spaces(bench: Bench) -> None:
    host = bench.host("declare a", "runtime 1", "declare a 7")
    load(host, bench.module(1))
    assert call(host) == 1
    assert host.ask("generation")["result"] == 1
    host.ask("runtime 0")
    assert call(host) == 0
    assert host.ask("generation")["result"] == 0
    host.ask("free 1")
    assert code(host.ask("runtime 1")) == "ok"
    assert host.ask("symbols") == []


def test_more_threads_than_shards(bench: Bench) -> None:
    host = bench.host("declare a", "declare n nest", "nest a", "serve host")
    load(host, bench.module(1))
    assert host.ask("threads 400 a 20000")["sum"] == 400
    assert host.ask("threads 300 n 5000")["sum"] == 300  # nested: each calls `a` once
    seen = bench.viewer(host).ask("")
    assert seen["slots"]["a"]["calls"] == 400 * 20_000 + 300 * 5_000
    assert seen["slots"]["n"]["calls"] == 300 * 5_000
    assert seen["shards"] == 256 and seen["slots"]["a"]["in_flight"] == 0
    host.ask("threads 20 a 5")  # shards are used again, and go on counting
    assert bench.viewer(host).ask("")["slots"]["a"]["calls"] == 400 * 20_000 + 300 * 5_000 + 100


def test_slots_that_several_threads_declare_by_calling_them(bench: Bench) -> None:
    """No call is lost and none counted elsewhere, whoever of the threads declares the slot."""
    host = bench.host("configure 5000", "serve host", "rush 2 5000")
    slots = bench.viewer(host).ask("")["slots"]
    assert len(slots) == 5_000
    assert {slot["calls"] for slot in slots.values()} == {2}


@pytest.mark.parametrize("slots", [1, 70, 4096])
def test_as_many_slots_as_configured(bench: Bench, slots: int) -> None:
    host = bench.host(f"configure {slots}")
    answers = [code(host.ask(f"declare s{number}")) for number in range(slots + 1)]
    assert answers == ["ok"] * slots + ["E-LIMIT"]
    assert call(host, f"s{slots - 1}") == 0
    assert code(host.ask(f"load {bench.module(1)}")) == "E-LIMIT"  # it would need one more
    load(host, bench.module(2, {"s0": "return 2;"}))
    assert call(host, "s0") == 2


def test_the_default_is_4096_slots(bench: Bench) -> None:
    host = bench.host()
    answers = [code(host.ask(f"declare s{number}")) for number in range(4097)]
    assert answers.count("ok") == 4096 and answers[-1] == "E-LIMIT"


def test_the_number_of_slots_is_fixed_before_anything_else(bench: Bench) -> None:
    assert code(bench.host().ask("configure 65537")) == "E-USAGE"
    assert code(bench.host("configure 65536").ask("declare a")) == "ok"
    assert code(bench.host("configure 0").ask("declare a")) == "ok"
    assert code(bench.host("declare a").ask("configure 10")) == "E-USAGE"


def test_declaring_twice_and_bad_names(bench: Bench) -> None:
    host = bench.host("declare a")
    assert code(host.ask("declare a")) == "E-DUPLICATE"
    assert code(host.ask("find b")) == "E-NO-SLOT"
    assert code(host.ask("declare " + "n" * 127)) == "ok"
    assert code(host.ask("declare " + "n" * 128)) == "E-USAGE"


# ---- serving: polls and safe points ----


def test_a_host_without_our_thread_polls(bench: Bench) -> None:
    host = bench.host("declare a", f"serve host {POLL}")
    assert len(list(Path(f"/proc/{host.pid}/task").iterdir())) == 1
    with Client(bench.socket(host)) as client:
        client.send(LOAD, paths(bench.module(1, **HOOKS)))  # type: ignore[arg-type]
        until(lambda: host.ask("poll 1000")["result"] == 1, "the request")
        assert client.receive().status == OK
        assert call(host) == 1
        client.send(LOAD, paths(bench.module(2)))
        until(lambda: host.ask("poll 1000")["result"] == 1, "the request")
        assert client.receive().status == OK
    until(lambda: host.ask("poll 0")["result"] == 0 and host.ask("state")["unloads"] == 1, "on_unload")
    assert host.ask("poll 0")["result"] == 0


THREAD_HOOKS = {
    "on_load": "state->loads++; state->value = (int32_t)syscall(SYS_gettid); return 0;",
    "on_unload": "state->unloads++; state->value = (int32_t)syscall(SYS_gettid); return 0;",
    "extra": "#include <sys/syscall.h>\n#include <unistd.h>",
}


def at_safe_point(host: Program, true: Callable[[], bool], what: str) -> None:
    """Lets the host pass safe points until something has happened."""
    until(lambda: code(host.ask("safepoint")) == "ok" and true(), what)


def test_commits_and_hooks_wait_for_the_safe_point(bench: Bench) -> None:
    host = bench.host("declare a", f"serve host {SAFE_POINT}")
    with Client(bench.socket(host)) as client:
        client.send(LOAD, paths(bench.module(1, flags=("-D_GNU_SOURCE",), **THREAD_HOOKS)))  # type: ignore[arg-type]
        time.sleep(0.05)
        assert host.ask("state")["loads"] == 0
        assert call(host) == 0
        at_safe_point(host, lambda: host.ask("state")["loads"] == 1, "on_load")
        assert host.ask("state")["value"] == host.pid  # the main thread, not ours
        at_safe_point(host, lambda: call(host) == 1, "the commit")
        assert client.receive().status == OK

        client.send(LOAD, paths(bench.module(2)))
        time.sleep(0.05)
        assert call(host) == 1
        at_safe_point(host, lambda: call(host) == 2, "the commit")
        assert client.receive().status == OK
        at_safe_point(host, lambda: host.ask("state")["unloads"] == 1, "on_unload")
        assert host.ask("state")["value"] == host.pid

        client.send(ROLLBACK, rollback("m"))
        time.sleep(0.05)
        assert call(host) == 2
        at_safe_point(host, lambda: call(host) == 1, "the roll back")
        assert client.receive().status == OK


def test_on_unload_of_an_aborted_preparation_waits_for_the_safe_point(bench: Bench) -> None:
    host = bench.host("declare a", f"serve host {SAFE_POINT}")
    module = bench.module(1, flags=("-D_GNU_SOURCE",), **THREAD_HOOKS)  # type: ignore[arg-type]
    with Client(bench.socket(host)) as client:
        client.send(PREPARE, paths(module))
        at_safe_point(host, lambda: host.ask("state")["loads"] == 1, "on_load")
        assert client.receive().status == OK
        client.send(ABORT)
        time.sleep(0.05)
        assert host.ask("state")["unloads"] == 0
        at_safe_point(host, lambda: host.ask("state")["unloads"] == 1, "on_unload")
        assert host.ask("state")["value"] == host.pid
        assert client.receive().status == OK


def test_serving_again_and_twice(bench: Bench) -> None:
    host = bench.host("declare a", "serve one")
    assert code(host.ask("serve two")) == "E-DUPLICATE"
    host.ask("stop")
    assert not bench.socket(host).exists()
    assert code(host.ask("serve two")) == "ok"
    with Client(bench.socket(host)) as client:
        assert client.request(LOAD, paths(bench.module(1))).status == OK
    assert call(host) == 1
    assert bench.viewer(host).ask("")["name"] == "two"


def test_two_clients_prepare_at_once(bench: Bench) -> None:
    host = bench.host("declare a", "declare b", "serve host")
    with Client(bench.socket(host)) as one, Client(bench.socket(host)) as two:
        assert one.request(PREPARE, paths(bench.module(1, {"a": "return 1;"}, name="a"))).status == OK
        assert two.request(PREPARE, paths(bench.module(1, {"b": "return 1;"}, name="b"))).status == OK
        assert two.request(COMMIT).status == OK
        assert (call(host, "a"), call(host, "b")) == (0, 1)
        assert one.request(COMMIT).status == OK
    assert (call(host, "a"), call(host, "b")) == (1, 1)
    assert host.ask("generation")["result"] == 2
