"""Slots, versions, swaps, refusals and calls of all running hosts for Prometheus.

A thread follows the hosts, so that no event is missed between two scrapes; a scrape reads the black boxes once more, so
that its counts are of that moment. Nothing is asked of the hosts themselves.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from threading import Event, Lock, Thread

from prometheus_client import CollectorRegistry, generate_latest, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from hotreload.errors import HotreloadError
from hotreload.follower import Follower
from hotreload.meter import Meter
from hotreload.model import EventKind, Record, Snapshot

LOOK_SECONDS = 0.25
FIRST_SECONDS = 2.0
"""How long the start waits for hosts that run already."""
_COUNTED = {
    EventKind.SWAP: "swaps",
    EventKind.ROLLBACK: "rollbacks",
    EventKind.REJECT: "rejections",
    EventKind.CRASH: "crashes",
}
_HOST = ("host", "pid")
_SLOT = (*_HOST, "slot")


class Hosts(Collector):
    """Collects from all running hosts, or those wanted by name or pid."""

    def __init__(self, wanted: Sequence[str] = (), *, trouble: Callable[[str], None] | None = None) -> None:
        self._follower = Follower(wanted, trouble=trouble)
        self._lock = Lock()
        self._meters: dict[int, Meter] = {}
        self._events: dict[int, Counter[tuple[EventKind, str]]] = {}
        self._ended = Event()
        self._thread = Thread(target=self._follow, name="hotreload-metrics", daemon=True)

    def start(self) -> None:
        """Begins to follow; returns when the hosts that run are known, after FIRST_SECONDS at most."""
        deadline = time.monotonic() + FIRST_SECONDS
        self._look()
        while self._follower.approaching and time.monotonic() < deadline:
            time.sleep(0.01)
            self._look()
        self._look()
        self._thread.start()

    def close(self) -> None:
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._follower.close()

    def collect(self) -> Iterable[Metric]:
        """What prometheus_client asks for at each scrape."""
        with self._lock:
            snapshots = self._observe()
            events = {pid: Counter(found) for pid, found in self._events.items()}
            rates = {each.host.pid: self._meters[each.host.pid].rates() for each in snapshots}
        yield from _hosts(snapshots)
        yield from _slots(snapshots, rates)
        yield from _events(snapshots, events)

    def _follow(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        with self._lock:
            self._observe()

    def _observe(self) -> list[Snapshot]:
        for record in self._follower.look():
            self._count(record)
        now = time.monotonic()
        snapshots = [link.snapshot(now) for link in self._follower.links.values()]
        for each in snapshots:
            self._meters.setdefault(each.host.pid, Meter()).observe(each)
        return snapshots

    def _count(self, record: Record) -> None:
        pid = record.host.pid if record.host else 0
        if record.kind is EventKind.ATTACH:
            self._events.setdefault(pid, Counter())
        elif record.kind is EventKind.DETACH:  # its series end, as Prometheus expects of what is gone
            self._events.pop(pid, None)
            self._meters.pop(pid, None)
        elif record.kind in _COUNTED:
            self._events.setdefault(pid, Counter())[record.kind, record.code] += 1


def _hosts(snapshots: Sequence[Snapshot]) -> Iterator[Metric]:
    info = InfoMetricFamily("hotreload_host", "A running host and the version of its shim", labels=_HOST)
    started = GaugeMetricFamily("hotreload_host_start_time_seconds", "When the host began", labels=_HOST)
    generation = GaugeMetricFamily("hotreload_generation", "Commits in this host so far", labels=_HOST)
    modules = GaugeMetricFamily("hotreload_modules", "Modules that the host has loaded", labels=(*_HOST, "state"))
    resident = GaugeMetricFamily("hotreload_resident_bytes", "Bytes that its modules keep mapped", labels=_HOST)
    blocked = GaugeMetricFamily(
        "hotreload_grace_period_blocked", "1 while a thread inside a call holds back a grace period", labels=_HOST
    )
    for each in snapshots:
        labels = _labels(each)
        info.add_metric(labels, {"version": each.host.version})
        started.add_metric(labels, each.host.started)
        generation.add_metric(labels, each.generation)
        resident.add_metric(labels, sum(record.bytes for record in each.modules))
        blocked.add_metric(labels, 1 if each.blocked else 0)
        for state, count in sorted(Counter(record.state for record in each.modules).items()):
            modules.add_metric([*labels, state], count)
    yield from (info, started, generation, modules, resident, blocked)


def _slots(snapshots: Sequence[Snapshot], rates: dict[int, list[float]]) -> Iterator[Metric]:
    info = InfoMetricFamily("hotreload_slot", "What runs in a slot", labels=_SLOT)
    version = GaugeMetricFamily("hotreload_slot_version", "Version of the slot; 0 is its fallback", labels=_SLOT)
    calls = CounterMetricFamily("hotreload_slot_calls", "Calls of the slot, exact", labels=_SLOT)
    rate = GaugeMetricFamily("hotreload_slot_calls_per_second", "Calls in about the last second", labels=_SLOT)
    swaps = CounterMetricFamily("hotreload_slot_swaps", "Changes of the slot", labels=_SLOT)
    in_flight = GaugeMetricFamily("hotreload_slot_in_flight", "Threads inside the slot now", labels=_SLOT)
    for each in snapshots:
        for row, slot in enumerate(each.slots):
            labels = [*_labels(each), slot.symbol]
            module = slot.module
            told = {
                "state": slot.state.value,
                "module": module.name if module else "",
                "module_version": str(module.version) if module else "",
                "build_id": module.build_id if module else "",
            }
            info.add_metric(labels, told)
            version.add_metric(labels, slot.version)
            calls.add_metric(labels, each.calls[row])
            rate.add_metric(labels, rates[each.host.pid][row])
            swaps.add_metric(labels, slot.swaps)
            in_flight.add_metric(labels, each.in_flight[row])
    yield from (info, version, calls, rate, swaps, in_flight)


def _events(snapshots: Sequence[Snapshot], events: dict[int, Counter[tuple[EventKind, str]]]) -> Iterator[Metric]:
    """What is counted from the hosts' events; a host that is found late remembers its last 1,024."""
    for kind, name in _COUNTED.items():
        coded = kind is EventKind.REJECT
        text = f"{name.capitalize()} in this host, as far as it remembers"
        family = CounterMetricFamily(f"hotreload_{name}", text, labels=(*_HOST, "code") if coded else _HOST)
        for each in snapshots:
            found = {code: n for (which, code), n in events.get(each.host.pid, Counter()).items() if which is kind}
            if coded:
                for code, count in sorted(found.items()):
                    family.add_metric([*_labels(each), code], count)
            else:
                family.add_metric(_labels(each), sum(found.values()))
        yield family


def _labels(snapshot: Snapshot) -> list[str]:
    return [snapshot.host.name, str(snapshot.host.pid)]


def text(hosts: Hosts) -> str:
    """One scrape as text."""
    return generate_latest(_registry(hosts)).decode("utf-8")


def serve(hosts: Hosts, address: str, port: int) -> tuple[str, Callable[[], None]]:
    """Serves scrapes until the function that is returned is called.

    Returns:
        Where, and the function.

    Raises:
        HotreloadError: ``E-IO``: it is no address of this machine, or somebody else has the port.
    """
    try:
        server, thread = start_http_server(port, address, _registry(hosts))
    except OSError as error:
        reason = f"cannot listen on {address}:{port}: {error.strerror}"
        raise HotreloadError("E-IO", reason, fix="choose another --listen ADDRESS:PORT") from error

    def end() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    where = f"[{address}]" if ":" in address else address
    return f"http://{where}:{server.server_port}/metrics", end


def _registry(hosts: Hosts) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(hosts)
    return registry
