"""The arithmetic of `theta bench scale`, and its conversations."""

import itertools
import math

import pytest

from theta_ml.bench.scale import _reference, far_seconds, stage_rows
from theta_ml.bench.scale_data import COPY, MONTHS, NEAR_COPY, conversations
from theta_ml.bench.scale_fit import beyond_start, fit
from theta_ml.bench.scale_stages import STAGES, Amount, Measured

SIZES = [1e5, 3e5, 1e6, 5e6]


def amounts(seconds: list[float], peaks: list[float]) -> list[Amount]:
    found = [Amount(1000, 100, 1e5), *(Amount(int(size), int(size / 10), 1e5) for size in SIZES)]
    for amount, time, peak in zip(found, [2.0, *seconds], [1e8, *peaks], strict=True):
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
    seconds = [20 + 1e-5 * size for size in SIZES]
    assert fit(SIZES, seconds).exponent < 0.4
    found = beyond_start(SIZES, seconds, 20)
    assert found.exponent == pytest.approx(1)
    assert far_seconds(found, 20, 1e9).middle == pytest.approx(10_020, rel=0.01)


@pytest.mark.parametrize(("power", "growth", "ok"), [(1.0, 1.0, True), (1.2, 1.0, False), (1.0, 1.4, False)])
def test_what_grows_too_fast_misses_its_target(power: float, growth: float, ok: bool) -> None:
    peaks = [1e9, 1e9, 1e9, growth * 1e9]
    rows = stage_rows(amounts([1e-4 * size**power for size in SIZES], peaks))
    judged = [row for row in rows if row["target"]]
    assert len(judged) == 2 * len(STAGES)
    assert all(row["ok"] for row in judged) == ok


def test_memory_is_held_against_a_million_in_the_full_run_and_against_a_third_in_the_quick_one() -> None:
    full, quick = [1e5, 3e5, 1e6, 2e6, 5e6], [3e4, 1e5, 300_007.0, 1_000_012.0]
    assert (full[_reference(full)], quick[_reference(quick)]) == (1e6, 300_007.0)


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
