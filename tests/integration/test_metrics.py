"""`hotreload metrics` scraped over the loopback beside real hosts."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable

import pytest
from integration.harness import PATIENCE_SECONDS, Bench, HostProgram, Process
from prometheus_client.parser import text_string_to_metric_families

Sample = Callable[..., float | None]


def parsed(text: str) -> Sample:
    """Returns ``value(name, **labels)``: a sample by its name and some of its labels; None where there is none."""
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def value(name: str, **labels: str) -> float | None:
        found = [s.value for s in samples if s.name == name and labels.items() <= s.labels.items()]
        assert len(found) <= 1, (name, labels, found)
        return found[0] if found else None

    return value


class Server(Process):
    """A running ``hotreload metrics``."""

    def __init__(self, bench: Bench, *arguments: str) -> None:
        command = bench.command("metrics", "--listen", "127.0.0.1:0", *arguments)
        super().__init__(command, bench.environment(PYTHONWARNINGS="error"), bench.work)
        bench.started.append(self)
        line = self.output.lines[self.output.find(lambda line: line.startswith("serving "))]
        self.url = line.removeprefix("serving ")

    def scrape(self) -> Sample:
        with urllib.request.urlopen(self.url, timeout=PATIENCE_SECONDS) as answer:
            return parsed(answer.read().decode("utf-8"))

    def until(self, wanted: Callable[[Sample], bool]) -> Sample:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            found = self.scrape()
            if wanted(found):
                return found
            assert time.monotonic() < deadline, "never scraped"
            time.sleep(0.05)


def pid(host: HostProgram) -> str:
    return str(host.pid)


def test_a_host_and_its_swaps(bench: Bench) -> None:
    host = bench.host("game", "a", "b")
    server = Server(bench)
    assert server.url.startswith("http://127.0.0.1:")
    before = host.now()
    value = server.scrape()
    after = host.now()
    assert value("hotreload_host_info", host="game", pid=pid(host)) == 1
    assert value("hotreload_generation", pid=pid(host)) == 0
    calls = value("hotreload_slot_calls_total", host="game", slot="a")
    assert calls is not None and before.ticks <= calls <= after.ticks, "counts are exact, and of the moment"
    assert value("hotreload_slot_version", slot="a") == 0
    assert value("hotreload_slot_info", slot="a", state="fallback", module="") == 1
    assert bench.call("load", bench.module(3)).code == 0
    assert bench.call("load", bench.module(4, on_load="return 1;")).code == 3
    assert bench.call("load", bench.module(5, on_load="return 2;")).code == 3
    value = server.scrape()
    assert value("hotreload_slot_version", slot="a") == 1 and value("hotreload_slot_version", slot="b") == 0
    assert value("hotreload_slot_info", slot="a", state="live", module="m", module_version="3") == 1
    assert value("hotreload_swaps_total", pid=pid(host)) == 1
    assert value("hotreload_slot_swaps_total", slot="a") == 1
    assert value("hotreload_rejections_total", code="E-ON-LOAD") == 2
    assert value("hotreload_modules", state="live") == 1
    assert (value("hotreload_resident_bytes") or 0) > 4096
    rate = server.until(lambda value: (value("hotreload_slot_calls_per_second", slot="a") or 0) > 0)
    assert rate("hotreload_crashes_total", pid=pid(host)) == 0
    assert bench.call("rollback").code == 0
    assert server.scrape()("hotreload_rollbacks_total") == 1
    assert server.interrupt() == 130 and server.errors.end() == []
    host.check_state()


def test_hosts_come_and_go(bench: Bench) -> None:
    server = Server(bench)
    assert server.scrape()("hotreload_generation") is None
    first, second = bench.host("first"), bench.host("second")
    server.until(lambda value: value("hotreload_generation", host="first") == 0)
    server.until(lambda value: value("hotreload_generation", host="second") == 0)
    first.kill()
    value = server.until(lambda value: value("hotreload_generation", host="first") is None)
    assert value("hotreload_generation", pid=pid(second)) == 0


def test_events_before_the_first_scrape_count(bench: Bench) -> None:
    bench.host("game")
    for version in (1, 2):
        assert bench.call("load", bench.module(version)).code == 0
    done = bench.call("metrics", "--once")
    assert done.code == 0 and done.err == ""
    assert parsed(done.out)("hotreload_swaps_total", host="game") == 2


def test_only_the_hosts_asked_for(bench: Bench) -> None:
    bench.host("game")
    bench.host("other")
    value = parsed(bench.call("metrics", "--once", "--host", "game").out)
    assert value("hotreload_generation", host="game") == 0 and value("hotreload_generation", host="other") is None


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1"])
def test_no_address(listen: str, bench: Bench) -> None:
    assert bench.call("metrics", "--listen", listen).code == 2


def test_a_port_that_is_taken(bench: Bench) -> None:
    server = Server(bench)
    done = bench.call("metrics", "--listen", server.url.removeprefix("http://").removesuffix("/metrics"))
    assert done.code == 1 and "E-IO" in done.err and "--listen" in done.err


def test_without_the_optional_package(bench: Bench) -> None:
    program = (
        "import sys; sys.modules['prometheus_client'] = None\n"
        "from hotreload.commands import main; sys.exit(main(['metrics', '--once']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=bench.environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "E-NOT-INSTALLED" in done.stderr and "[metrics]" in done.stderr
