"""The arithmetic of `theta bench scale`, and its conversations."""

import itertools
import math
import os
import random
import statistics

import click
import pytest

from theta_ml.bench.scale import _reference, bench_scale, stage_rows
from theta_ml.bench.scale_data import COPY, MONTHS, NEAR_COPY, conversations
from theta_ml.bench.scale_fit import beyond_start, fit
from theta_ml.bench.scale_stages import AMOUNTS, STAGES, START, Amount, Measured

SIZES = [1e5, 3e5, 1e6, 5e6]


def amounts(power: float, peaks: list[float]) -> list[Amount]:
    """Of a stage that starts in 20 seconds and works for 100 on a million messages."""
    found = [Amount(int(size), int(size / 10), 1e5) for size in (1e3, *SIZES)]
    for amount, peak in zip(found, [1e8, *peaks], strict=True):
        time = 20 + 100 * (amount.messages / 1e6) ** power
        amount.stages.update(dict.fromkeys(STAGES, Measured(time, int(peak))))
    return found


def test_a_power_law_is_found_again() -> None:
    found = fit(SIZES, [3e-4 * size**0.9 for size in SIZES])
    assert found.exponent == pytest.approx(0.9)
    assert found.error == pytest.approx(0, abs=1e-6)
    low, middle, high = found.at(1e8)
    assert low == pytest.approx(middle) == pytest.approx(high) == pytest.approx(3e-4 * 1e8**0.9)


def test_noise_widens_the_interval_and_distance_does_more() -> None:
    found = fit(SIZES, [1e-4 * size * factor for size, factor in zip(SIZES, (1.1, 0.9, 1.1, 0.95), strict=True)])
    near, far = found.at(1e6), found.at(1e10)
    assert near.low < near.middle < near.high
    assert math.log(far.high / far.low) > 2 * math.log(near.high / near.low)


def test_the_exponent_s_error_is_that_of_a_straight_line() -> None:
    """By hand: x = 0, 1, 2, 3 and y = 0, 1, 2, 4 give a slope of 1.3, residuals of 0.3 in all, an error of √0.03."""
    found = fit([math.e**k for k in range(4)], [math.e**k for k in (0, 1, 2, 4)])
    assert found.exponent == pytest.approx(1.3)
    assert found.error == pytest.approx(math.sqrt(0.03))


def test_the_start_of_a_stage_does_not_flatten_its_growth() -> None:
    sizes = [1e4, *SIZES]
    seconds = [20 + 1e-5 * size for size in sizes]
    assert fit(sizes, seconds).exponent < 0.4
    found = beyond_start(sizes, seconds)
    assert found.start == pytest.approx(20)
    assert found.work.exponent == pytest.approx(1)
    assert found.at(1e9).middle == pytest.approx(10_020, rel=0.01)


def test_the_error_of_the_exponent_beyond_the_start_is_what_noise_makes_of_it() -> None:
    """Times with 2 % noise, of a start as long as the work on 300,000 messages."""
    noise, found = random.Random(1), []
    for _ in range(100):
        times = [(3 + 1e-5 * size) * noise.gauss(1, 0.02) for size in (START, *AMOUNTS)]
        found.append(beyond_start([START, *AMOUNTS], times).work)
    exponents = [each.exponent for each in found]
    assert statistics.mean(exponents) == pytest.approx(1, abs=0.02)
    spread, told = statistics.stdev(exponents), math.sqrt(statistics.mean(each.error**2 for each in found))
    assert 0.7 < told / spread < 1.4


def test_growth_is_found_where_there_is_no_start() -> None:
    found = beyond_start([START, *AMOUNTS], [1e-6 * size**1.5 for size in (START, *AMOUNTS)])
    assert found.work.exponent == pytest.approx(1.5, abs=0.01)
    assert found.work.error < 0.01


def test_a_stage_that_only_starts_has_no_growth_to_tell() -> None:
    found = beyond_start([START, *AMOUNTS], [9.0, 9.1, 8.9, 9.05, 9.0, 9.02])
    assert found.work.error > 1
    assert found.at(1e9).high > 1e6


@pytest.mark.parametrize(
    ("power", "growth", "ok"), [(1.0, 1.0, True), (1.2, 1.0, False), (2.0, 1.0, False), (1.0, 1.4, False)]
)
def test_what_grows_too_fast_misses_its_target(power: float, growth: float, ok: bool) -> None:
    peaks = [1e9, 1e9, 1e9, growth * 1e9]
    rows = stage_rows(amounts(power, peaks))
    judged = [row for row in rows if row["target"]]
    assert len(judged) == 2 * len(STAGES)
    assert all(row["ok"] for row in judged) == ok


@pytest.mark.parametrize("missing", ["redis-server", "cores"])
def test_what_is_missing_is_said_before_anything_is_measured(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    def measured(*_: object) -> list[Amount]:
        raise AssertionError("measured all the same")

    monkeypatch.setattr("theta_ml.bench.scale.measure_stages", measured)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0} if missing == "cores" else {0, 1})
    there = None if missing == "redis-server" else "/usr/bin/redis-server"
    monkeypatch.setattr("theta_ml.bench.scale_overhead.shutil.which", lambda _: there)
    with pytest.raises(click.ClickException, match=missing):
        bench_scale()


def test_memory_is_held_against_a_million_messages() -> None:
    landed = [100_005.0, 300_004.0, 1_000_002.0, 2_000_003.0, 5_000_008.0]
    assert landed[_reference(landed)] == 1_000_002


def test_conversations_are_always_the_same_and_of_every_month() -> None:
    once, again = (list(itertools.islice(conversations(), 400)) for _ in range(2))
    assert once == again
    assert len({each["id"] for each in once}) == 400
    assert {each["created_at"][:7] for each in once} == set(MONTHS)


def test_some_are_copies_and_near_copies_of_the_one_before() -> None:
    found = list(itertools.islice(conversations(), 400))
    said = [[message["content"] for message in each["messages"]] for each in found]
    assert said[COPY - 1] == said[COPY - 2]
    assert len(said[NEAR_COPY - 1]) == len(said[NEAR_COPY - 2])
    near = [k for k in range(NEAR_COPY - 1, 400, NEAR_COPY) if said[k] != said[k - 1]]
    assert near
    distinct = {tuple(each) for each in said}
    assert 0.9 * len(said) < len(distinct) < len(said)
