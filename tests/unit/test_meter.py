"""Call rates from snapshots: now, and second by second."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hotreload.meter import BUCKETS, Meter
from hotreload.model import Host, Snapshot

HOST = Host(1, "host", 5.0)


def at(time: float, *calls: int, host: Host = HOST) -> Snapshot:
    return Snapshot(time, host, generation=0, alive=True, slots=(), modules=(), calls=calls, in_flight=[0] * len(calls))


def fed(*snapshots: Snapshot) -> Meter:
    meter = Meter()
    for snapshot in snapshots:
        meter.observe(snapshot)
    return meter


def test_nothing_is_known_before_the_second_snapshot() -> None:
    assert fed().rates() == [] and fed().rate(0) == 0.0 and fed().history(0) == []
    meter = fed(at(10.0, 500))
    assert meter.rate(0) == 0.0 and meter.rates() == [0.0] and meter.history(0) == []


def test_rate_covers_about_the_last_second() -> None:
    meter = fed(*(at(10 + quarter / 4, 100 * quarter, 7) for quarter in range(9)))
    assert meter.rate(0) == pytest.approx(400)
    assert meter.rate(1) == 0.0
    assert meter.rates() == pytest.approx([400, 0])
    # A second of silence, and the rate says so.
    for quarter in range(9, 16):
        meter.observe(at(10 + quarter / 4, 800, 7))
    assert meter.rate(0) == 0.0


def test_history_has_one_value_a_second_and_ends_after_thirty() -> None:
    meter, total = Meter(), 0
    for second in range(50):
        meter.observe(at(100.0 + second, total))
        total += second
    assert meter.history(0) == pytest.approx([float(second) for second in range(49 - BUCKETS, 49)])


def test_a_sampler_that_is_a_little_fast_still_makes_buckets_of_a_second() -> None:
    meter = fed(*(at(quarter * 0.249, 10 * quarter) for quarter in range(41)))
    assert len(meter.history(0)) == 10
    assert meter.history(0) == pytest.approx([10 / 0.249] * 10)


def test_a_gap_fills_its_seconds_with_the_mean() -> None:
    meter = fed(at(0.0, 0), at(1.0, 10), at(5.0, 50), at(6.0, 50))
    assert meter.history(0) == pytest.approx([10, 10, 10, 10, 10, 0])
    meter.observe(at(4000.0, 50))
    assert meter.history(0) == [0.0] * BUCKETS


def test_slots_that_appear_later_started_at_zero() -> None:
    meter = fed(at(0.0, 5), at(1.0, 6, 30), at(2.0, 7, 50))
    assert meter.history(0) == pytest.approx([1, 1])
    assert meter.history(1) == pytest.approx([30, 20])
    assert meter.rates() == pytest.approx([1, 20])
    assert meter.rate(1) == pytest.approx(20)
    assert meter.rate(7) == 0.0 and meter.history(7) == [0.0, 0.0]


def test_a_successor_under_the_same_pid_starts_afresh() -> None:
    meter = fed(at(0.0, 1000), at(1.0, 2000))
    meter.observe(at(2.0, 3, host=Host(1, "host", 6.0)))
    assert meter.history(0) == [] and meter.rate(0) == 0.0
    meter.observe(at(3.0, 8, host=Host(1, "host", 6.0)))
    assert meter.history(0) == pytest.approx([5])


def test_counters_that_fall_are_no_negative_speed() -> None:
    meter = fed(at(0.0, 1000), at(1.0, 3))
    assert meter.rate(0) == 0.0 and meter.rates() == [0.0] and meter.history(0) == [0.0]


def test_time_that_steps_back_starts_afresh() -> None:
    meter = fed(at(50.0, 1000), at(51.0, 2000), at(7.0, 3))
    assert meter.history(0) == []


def test_many_snapshots_within_a_second_keep_the_window() -> None:
    """A burst (one snapshot a swap) must neither grow the memory nor shorten the window to milliseconds."""
    meter = fed(*(at(step / 1000, step) for step in range(3000)))
    assert meter.rate(0) == pytest.approx(1000)
    assert len(meter.history(0)) == 3
    assert len(meter._recent) < 12


def test_a_reader_of_mutable_counters_is_not_fooled() -> None:
    """History is a copy: the producer may reuse its buffer after the second has passed."""
    meter, calls = Meter(), [10]
    for second, total in enumerate((10, 30, 999)):
        calls[0] = total
        if second < 2:
            meter.observe(replace(at(float(second)), calls=calls))
    assert meter.history(0) == pytest.approx([20])
