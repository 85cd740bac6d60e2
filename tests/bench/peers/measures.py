"""The measures (a) to (i): each runs peers' programs and returns what it found, as JSON-ready data."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import build
from build import MODULES, PROGRAMS, Peer

Data = dict[str, Any]


@dataclass(frozen=True)
class Effort:
    """How much of everything; ``quick`` is for trying the scripts out, its numbers mean nothing."""

    calls: int = 1_000_000
    repetitions: int = 5
    rounds: int = 2
    threads: tuple[int, ...] = (1, 2, 4)
    swaps: int = 200
    windows: int = 300
    own_windows: int = 10_000
    longest_seconds: int = 60
    growing_swaps: int = 1000
    held_ms: int = 10_000
    idle_seconds: float = 10.0
    storm_seconds: float = 5.0
    slots: tuple[int, ...] = (1, 4, 16, 64, 256, 1024, 4096)
    hosts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)
    modules: int = 1000
    reloads: int = 10_000
    transactions: int = 20
    step_rounds: int = 300
    starts: int = 20
    dashboard_seconds: float = 5.0


QUICK = Effort(
    calls=20_000, repetitions=3, rounds=1, threads=(1, 2), swaps=5, windows=5, own_windows=5, growing_swaps=20,
    held_ms=1000, idle_seconds=1.0, storm_seconds=1.0, slots=(1, 16, 256), hosts=(1, 4), modules=20, reloads=200,
    transactions=4, step_rounds=20, starts=3, dashboard_seconds=1.0,
)  # fmt: skip


# ---- running one program ----


@dataclass(frozen=True)
class Outcome:
    """How a program ended: its exit code (minus the signal for a killed one), None when it had to be killed."""

    code: int | None
    output: str
    errors: str


@dataclass(frozen=True)
class Place:
    """The directories of one run: where modules appear, and one for anything else."""

    output: Path
    scratch: Path
    environment: Mapping[str, str]


@contextlib.contextmanager
def place(peer: Peer) -> Iterator[Place]:
    """Fresh directories for one run of the peer, removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="peers-") as name:
        root = Path(name)
        watched = peer.directory or root / "output"
        for directory in (watched, root / "scratch", root / "run", root / "state"):
            directory.mkdir(exist_ok=True, mode=0o700)
        environment = {
            **os.environ,
            **peer.environment,
            "HOT_LIB_DIR": str(watched),
            "XDG_RUNTIME_DIR": str(root / "run"),
            "XDG_STATE_HOME": str(root / "state"),
        }
        yield Place(watched / peer.output, root / "scratch", environment)


@contextlib.contextmanager
def watcher(peer: Peer, where: Place) -> Iterator[subprocess.Popen[str] | None]:
    """``hotreload watch`` beside the host that it drives; nothing for other peers."""
    if peer.name != "hotreload-watch":
        yield None
        return
    command = [sys.executable, "-m", "hotreload", "watch", str(where.output.parent), "--json"]
    with subprocess.Popen(command, env=where.environment, stdout=subprocess.DEVNULL, text=True) as process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()


def command(peer: Peer, where: Place, mode: str, first: Path, second: Path, *arguments: object) -> list[str]:
    return [str(part) for part in (peer.program, mode, where.output, where.scratch, first, second, *arguments)]


def execute(words: Sequence[str], environment: Mapping[str, str], limit: float) -> Outcome:
    """Runs to its end, or kills it after ``limit`` seconds."""
    process = subprocess.Popen(words, env=dict(environment), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               preexec_fn=_no_core_file)  # fmt: skip
    try:
        output, errors = process.communicate(timeout=limit)
        return Outcome(process.returncode, output, errors)
    except subprocess.TimeoutExpired:
        process.kill()
        output, errors = process.communicate()
        return Outcome(None, output, errors)


def _no_core_file() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def addresses(peer: Peer, *modules: Path) -> dict[str, str]:
    """What subsecond's host has to know of the modules of this run, in order."""
    if peer.kind != "subsecond":
        return {}
    return {"PATCH_ADDRESSES": ";".join(build.patch_addresses(module) for module in modules)}


def measure(peer: Peer, mode: str, *arguments: object, limit: float = 300.0, first: str = "1") -> Data:
    """One mode of one peer: the object that it prints, or ``{"failed": why}``."""
    one, two = peer.module(first), peer.module("2")
    with place(peer) as where, watcher(peer, where) as watching:
        environment = {**where.environment, **addresses(peer, one, two)}
        outcome = execute(command(peer, where, mode, one, two, *arguments), environment, limit)
        if watching is not None and watching.poll() is not None:
            return {"failed": f"the watcher ended by itself, with {watching.returncode}"}
    if outcome.code == 0:
        found: Data = json.loads(outcome.output)
        return found
    return {"failed": why(outcome)}


def why(outcome: Outcome) -> str:
    if outcome.code is None:
        return "did not end in time"
    if outcome.code < 0:
        return f"killed by {signal.Signals(-outcome.code).name}"
    lines = outcome.errors.strip().splitlines()
    message = re.sub(r"/\S*/", "", lines[-1]) if lines else "no message"  # directories of this run say nothing
    return f"exit code {outcome.code}: {message}"


# ---- (a) to (d), (f), (g) ----


def calls(peers: Sequence[Peer], effort: Effort) -> Data:
    """(a) ns per call and of a plain pointer, by the threads' processor time and by the wall clock; rounds of all peers
    in turn so that the machine's moods hit all alike."""
    found: Data = {}
    for turn in range(effort.rounds):
        own = [peer for peer in peers if not peer.same_calls_as]
        for peer in own if turn % 2 == 0 else reversed(own):
            for threads in effort.threads:
                row = found.setdefault(peer.name, {}).setdefault(str(threads), {})
                one = measure(peer, "calls", threads, effort.repetitions, effort.calls, MODULES / "c-1.so")
                for key, value in one.items():
                    row[key] = value if key == "failed" else row.get(key, []) + value
    return found


def scaled(peer: Peer, count: int) -> int:
    """Of ``count`` the share that a peer gets which waits by design."""
    return max(3, count * peer.swaps // 200)


def swaps(peers: Sequence[Peer], effort: Effort) -> Data:
    """(b) us from the rename of the finished file to the first call of the new code."""
    return {peer.name: measure(peer, "swaps", scaled(peer, effort.swaps), peer.pause_ms, 4000) for peer in peers}


def longest(peers: Sequence[Peer], effort: Effort) -> Data:
    """(c) the longest call of another thread in the window of each swap, and in as long a window at rest."""
    found = {}
    for peer in peers:
        ours = peer.name == "hotreload"
        count = scaled(peer, effort.own_windows if ours else effort.windows) // (10 if peer.watches else 1)
        pause_ms = 1 if ours else peer.pause_ms
        found[peer.name] = measure(peer, "longest", max(3, count), pause_ms, 4000, effort.longest_seconds)
    return found


def pairs(peers: Sequence[Peer], effort: Effort) -> Data:
    """(d) pairs of calls of a and b on two threads, and how many saw two versions."""
    found = {}
    for peer in peers:
        count = scaled(peer, effort.swaps) // (4 if peer.watches else 1)
        found[peer.name] = measure(peer, "pairs", max(3, count), min(peer.pause_ms, 20), 4000, 2)
    return found


UNLOADING = "hotreload-unload"
"""Our C program with ``HR_OPTION_UNLOAD``: a row of (f) only."""
LABELS = {UNLOADING: "hotreload, C, unloading"}
"""Of rows that are no peer of `build.PEERS`."""
UNLOADING_PAUSE_MS = 20


def memory(peers: Sequence[Peer], effort: Effort) -> Data:
    """(f) resident memory and mappings over swaps; fewer swaps of those that wait."""
    found = {}
    for peer in peers:
        count = scaled(peer, effort.growing_swaps) // (10 if peer.watches else 1)
        found[peer.name] = measure(peer, "memory", max(10, count // 10 * 10), 0, 4000)
        if peer.name == "hotreload":  # with a pause, as between builds: a scan wants a few milliseconds
            unloading = replace(peer, environment={"PEERS_UNLOAD": "1"})
            found[UNLOADING] = measure(unloading, "memory", max(10, count // 10 * 10), UNLOADING_PAUSE_MS, 4000)
    return found


def held(peers: Sequence[Peer], effort: Effort) -> Data:
    """(g) a swap while another thread is inside b. All peers at once: they sleep."""

    def one(peer: Peer) -> Data:
        if peer.one_thread:
            return {"failed": "made for one thread: nothing can be swapped while it is in a call"}
        return measure(peer, "held", effort.held_ms, first="hold", limit=effort.held_ms / 1000 + 60)

    with ThreadPoolExecutor(len(peers)) as pool:
        return dict(zip([peer.name for peer in peers], pool.map(one, peers), strict=True))


# ---- (e) ----

CASES = ("truncated", "foreign", "wrong-magic", "missing-symbol", "wrong-struct", "crash", "hang", "overwrite", "strip")
HANG_SECONDS = 8.0
_FIXED_OUTPUT = threading.Lock()
"""libhotpatch watches one name, fixed when it is built: its cases must not run side by side."""


def survive(peers: Sequence[Peer], effort: Effort) -> Data:
    """(e) one host per peer and bad module, each in its own process with a time limit."""
    del effort
    todo = [(peer, case) for peer in peers for case in CASES]
    with ThreadPoolExecutor(4) as pool:  # mostly waiting; a hanging one fills a core
        results = pool.map(lambda each: survival(*each), todo)
        found: Data = {}
        for (peer, case), result in zip(todo, results, strict=True):
            found.setdefault(peer.name, {})[case] = result
    return found


def survival(peer: Peer, case: str) -> Data:
    in_place = case in ("overwrite", "strip")
    bad = peer.module("2" if in_place else case)
    if not bad.exists():
        return {"verdict": "n/a", "detail": "its modules carry no such mark"}
    one, two = peer.module("1"), peer.module("2")
    wait_ms = 1500 if peer.watches else 50
    with place(peer) as where, watcher(peer, where):
        known = two if case == "truncated" else bad  # the tool that knows addresses has the whole file
        loads = (one, one, known, two) if in_place else (one, known, two)
        environment = {**where.environment, **addresses(peer, *loads), "PEERS_GUARD": "1"}
        with _FIXED_OUTPUT if peer.directory else contextlib.nullcontext():
            words = command(peer, where, "survive", one, two, case, bad, wait_ms)
            outcome = execute(words, environment, HANG_SECONDS + 2 * wait_ms / 1000)
    said = [json.loads(line) for line in outcome.output.splitlines() if line.startswith("{")]
    return judge(peer, case, outcome, {each["what"]: each["value"] for each in said})


def judge(peer: Peer, case: str, outcome: Outcome, said: Mapping[str, int]) -> Data:
    """What became of the host: ``refused``, ``rolled back``, ``loaded``, ``survived``, ``stale``, ``corrupted``,
    ``broken`` (alive, with wrong results), ``hung`` or ``died``."""
    detail = json.dumps(dict(said))
    if outcome.code is None:
        return {"verdict": "hung", "detail": detail}
    if outcome.code != 0:
        return {"verdict": "died", "detail": f"{why(outcome)} {detail}"}
    if said.get("guard"):
        return {"verdict": "corrupted", "detail": detail}
    if case in ("overwrite", "strip"):
        # Version 1 ran; the file now holds version 2 (overwrite) or version 1 without its symbol table (strip).
        # A peer that watches may have loaded the new content properly before the first call after the change.
        right = (said.get("still") == 1 or peer.watches) and said.get("end") == 2
        changed = said.get("a") == 2 or case == "strip"
        return {"verdict": "survived" if right and changed else "stale" if right else "broken", "detail": detail}
    if case in ("crash", "hang") and said.get("after") == 1 and said.get("end") == 2:
        return {"verdict": "rolled back", "detail": detail}
    if said.get("a") == 1 and said.get("b") == 1:
        usable = "" if said.get("end") == 2 else ", and nothing after it gets in"
        return {"verdict": f"refused{usable}", "detail": detail}
    return {"verdict": "loaded" if said.get("a") == 2 else "broken", "detail": detail}


# ---- (h) ----


def cpu(peers: Sequence[Peer], effort: Effort) -> Data:
    """(h) share of a core of what watches: idle, and while its directory is full of events."""
    watching = [peer for peer in peers if peer.watches]
    if not watching:
        return {}
    with ThreadPoolExecutor(len(watching)) as pool:  # idle: they do not disturb each other
        idle = list(pool.map(lambda peer: watching_share(peer, effort.idle_seconds, storm=False), watching))
    return {
        peer.name: {"idle": share, "storm": watching_share(peer, effort.storm_seconds, storm=True)}
        for peer, share in zip(watching, idle, strict=True)
    }


def watching_share(peer: Peer, seconds: float, *, storm: bool) -> Data:
    """Of the watching process: `hotreload watch`, or the host itself, which does nothing else meanwhile."""
    with place(peer) as where, watcher(peer, where) as watching:
        words = command(peer, where, "idle", peer.module("1"), peer.module("2"), int((seconds + 5) * 1000))
        host = subprocess.Popen(words, env=dict(where.environment), stdout=subprocess.PIPE, text=True)
        time.sleep(3.0)  # the watcher has attached, the host's first second is over
        pid = watching.pid if watching else host.pid
        before, began = processor_seconds(pid), time.monotonic()
        events = make_storm(where.output, seconds - 2.0) if storm else wait(seconds - 2.0)
        used, elapsed = processor_seconds(pid) - before, time.monotonic() - began
        host.kill()
        host.communicate()
    return {"share": used / elapsed, "events_per_second": events / elapsed}


def wait(seconds: float) -> int:
    time.sleep(max(seconds, 0.5))
    return 0


def processor_seconds(pid: int) -> float:
    """Of all threads the process has or had. Its clock counts nanoseconds, /proc/PID/stat hundredths of a second."""
    return time.clock_gettime((~pid << 3) | 2)  # as clock_getcpuclockid makes it on Linux


def make_storm(output: Path, seconds: float) -> int:
    """A compiler at work in the watched directory: object files come and go, and the output is touched."""
    end = time.monotonic() + max(seconds, 0.5)
    number = 0
    while time.monotonic() < end:
        scratch = output.with_name(f"object-{number % 50}.o")
        scratch.write_bytes(b"\x7fELF" + bytes(200))
        if number % 2:
            scratch.unlink()
        if number % 20 == 0:
            os.utime(output)
        number += 1
        time.sleep(0.002)
    for scratch in output.parent.glob("object-*.o"):
        scratch.unlink()
    return number


# ---- (i) ----


def growth(peers: Sequence[Peer], effort: Effort) -> Data:
    """(i) our own costs against size."""
    del peers
    with tempfile.TemporaryDirectory(prefix="peers-growth-") as name:
        root = Path(name)
        steps: dict[str, Callable[[Path, Effort], object]] = {
            "slots": growth_slots, "modules": growth_modules, "reloads": growth_reloads, "dlopens": growth_dlopens,
            "hosts": growth_hosts,
        }  # fmt: skip
        found: Data = {}
        for step, run in steps.items():
            directory = root / step
            directory.mkdir()
            try:
                found[step] = run(directory, effort)
            except RuntimeError as error:  # the others are worth having all the same
                print(f"{step}: {error}", file=sys.stderr)
        return found


def run_growth(directory: Path, *arguments: object) -> Any:
    environment = {**os.environ, "XDG_STATE_HOME": str(directory), "XDG_RUNTIME_DIR": str(directory)}
    outcome = execute([str(part) for part in (PROGRAMS / "growth", *arguments)], environment, 300)
    if outcome.code != 0:
        raise RuntimeError(f"growth: {why(outcome)}")
    return json.loads(outcome.output)


def growth_slots(directory: Path, effort: Effort) -> list[Data]:
    rows = []
    for count in effort.slots:
        paths = []
        for version in (1, 2):
            entries = ", ".join(f'HR_PATCH("slot{number}", step)' for number in range(count))
            source = directory / f"slots-{count}-{version}.c"
            source.write_text(
                "#include <hotreload/patch.h>\n"
                "static int32_t step(void *state, const void *input, void *output) {\n"
                f"    (void)state;\n    *(int64_t *)output = *(const int64_t *)input + {version};\n    return 0;\n}}\n"
                f'HR_MODULE("growth", {version}, {entries})\n'
            )
            paths.append(source.with_suffix(".so"))
            build.run([build.cc(), *build.FLAGS, *build.MODULE_FLAGS, "-o", paths[-1], source])
            paths[-1].chmod(0o755)
        rows.append({"slots": count, **run_growth(directory, "slots", 31, count, *paths)})
    return rows


def growth_modules(directory: Path, effort: Effort) -> list[float]:
    source = directory / "module.c"
    source.write_text(
        "#include <hotreload/patch.h>\n"
        "static int32_t step(void *state, const void *input, void *output) {\n"
        "    (void)state;\n    *(int64_t *)output = *(const int64_t *)input;\n    return 0;\n}\n"
        'HR_MODULE("module-0000", 1, HR_PATCH("slot-0000", step))\n'
    )
    template = source.with_suffix(".so")
    build.run([build.cc(), *build.FLAGS, *build.MODULE_FLAGS, "-Wl,--build-id=none", "-o", template, source])
    data = template.read_bytes()
    paths = []
    for number in range(effort.modules):
        # Other names in the same bytes: a compiler run for each would take longer than all the rest.
        path = directory / f"m{number:04}.so"
        named = data.replace(b"module-0000\0", b"module-%04d\0" % number)
        path.write_bytes(named.replace(b"slot-0000\0", b"slot-%04d\0" % number))
        path.chmod(0o755)
        paths.append(path)
    times: list[float] = run_growth(directory, "modules", *paths)["load_us"]
    return times


def growth_reloads(directory: Path, effort: Effort) -> Any:
    return run_growth(directory, "reloads", effort.reloads, *copied_versions(directory))


def growth_dlopens(directory: Path, effort: Effort) -> Any:
    """The same of plain dlopen of a copy: what of our growth is the loader's."""
    return run_growth(directory, "dlopens", effort.reloads, *copied_versions(directory))


def copied_versions(directory: Path) -> list[Path]:
    """On the file system that everything else of the run is on."""
    versions = []
    for name in ("c-1.so", "c-2.so"):
        versions.append(directory / name)
        versions[-1].write_bytes((MODULES / name).read_bytes())
        versions[-1].chmod(0o755)
    return versions


TRANSACTION_PAUSE_S = 0.2
"""Between transactions: builds come no faster. Hosts ready themselves for the next swap in it, 20 ms after the last."""


def growth_hosts(directory: Path, effort: Effort) -> list[Data]:
    """ms of one transaction over all hosts, as the watcher makes it: every host prepares, then every host commits."""
    from hotreload.hosts import Finder

    peer = next(peer for peer in build.PEERS if peer.name == "hotreload-watch")
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(directory), "XDG_STATE_HOME": str(directory)}
    directory.chmod(0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(directory)
    rows = []
    for count in effort.hosts:
        hosts = []
        for number in range(count):
            where = Place(directory / f"module-{number}.so", directory, environment)
            words = command(peer, where, "idle", peer.module("1"), peer.module("2"), 600_000)
            hosts.append(subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL))
        try:
            links: list[Any] = []
            end = time.monotonic() + 20
            while len(links) < count and time.monotonic() < end:
                for link in links:
                    link.close()
                time.sleep(0.2)
                links = Finder(directory / "hotreload").connect()
            for link in links:  # a host's first load makes its directories
                transaction([link], peer.module("1"))
            turns = [peer.module(str(2 - turn % 2)) for turn in range(effort.transactions)]
            without_pause = [transaction(links, module) for module in turns]
            times = []
            for module in turns:
                time.sleep(TRANSACTION_PAUSE_S)
                times.append(transaction(links, module))
            for link in links:
                link.close()
        finally:
            for host in hosts:
                host.kill()
                host.wait()
        rows.append({"hosts": count, "ms": times, "without_pause_ms": without_pause})
    return rows


def transaction(links: Sequence[Any], module: Path) -> float:
    began = time.perf_counter()
    for link in links:
        link.begin_prepare([str(module)])
    prepared = [link.finish() for link in links]
    for link in links:
        link.begin_commit()
    committed = [link.finish() for link in links]
    took = (time.perf_counter() - began) * 1000
    for reply in (*prepared, *committed):
        if reply.failure is not None:
            raise RuntimeError(f"a host refused: {reply}")
    return took


# ---- what remains above each floor ----


def floors(peers: Sequence[Peer], effort: Effort) -> Data:
    """Our parts beside the least that each can take; the call and the watch have theirs in (a) and (b)."""
    del peers
    with tempfile.TemporaryDirectory(prefix="peers-floors-") as name:
        root = Path(name)
        versions = copied_versions(root)
        load = run_growth(root, "steps", effort.step_rounds, *versions)
        return {
            "load": load, "watch": watch_parts(root, versions, effort), "start": starts(effort),
            "dashboard": dashboard_share(effort),
        }  # fmt: skip


def watch_parts(directory: Path, versions: Sequence[Path], effort: Effort) -> Data:
    """us from the rename to the candidate, and of the looks at the file that are part of it."""
    from hotreload import native
    from hotreload.model import Settled
    from hotreload.watcher import Watcher, WatcherEvent

    output = directory / "watched" / "module.so"
    output.parent.mkdir()
    events: SimpleQueue[WatcherEvent] = SimpleQueue()
    watcher = Watcher([output.parent], events.put, existing=False)
    watcher.start()
    candidates, looks = [], []
    try:
        for turn in range(effort.swaps):
            finished = directory / "finished.so"
            finished.write_bytes(versions[turn % 2].read_bytes())
            finished.chmod(0o755)
            began = time.monotonic()
            finished.rename(output)
            while not isinstance(event := events.get(timeout=10.0), Settled):
                pass
            candidates.append((event.candidates[0].settled - began) * 1e6)
            began = time.monotonic()
            native.settled(output), native.inspect(output), native.settled(output)
            looks.append((time.monotonic() - began) * 1e6)
            time.sleep(0.005)
    finally:
        watcher.stop()
    return {"candidate_us": candidates, "look_us": looks}


def starts(effort: Effort) -> Data:
    """ms of ``hotreload --version`` and of the bare interpreter, in turn."""
    commands = {"bare_ms": ["-c", "pass"], "version_ms": ["-m", "hotreload", "--version"]}
    found: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(effort.starts):
        for name, words in commands.items():
            began = time.perf_counter()
            subprocess.run([sys.executable, *words], stdout=subprocess.DEVNULL, check=True)
            found[name].append((time.perf_counter() - began) * 1e3)
    return found


def dashboard_share(effort: Effort) -> Data:
    """Share of a core that drawing takes while 1,000 slots change before every frame; an idle terminal takes 0."""
    sys.path.insert(0, str(build.HERE.parent))
    import bench_dashboard

    from hotreload.reporters import ui

    share, frames, size, _ = bench_dashboard.measure(effort.dashboard_seconds, ui.Sort.NAME)
    return {
        "share": share,
        "frames_per_second": frames / effort.dashboard_seconds,
        "bytes_per_frame": size / max(1, frames),
    }


MEASURES: dict[str, Callable[[Sequence[Peer], Effort], Data]] = {
    "calls": calls, "swaps": swaps, "longest": longest, "pairs": pairs, "survive": survive, "memory": memory,
    "held": held, "cpu": cpu, "growth": growth, "floors": floors,
}  # fmt: skip
