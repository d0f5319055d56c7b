"""What the picture of a comparison is drawn from."""

import base64
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.evaluation.reports import GOOD
from theta_ml.evaluation.comparison import Slice
from theta_ml.notify.pictures import BETTER, EITHER, ROWS, WORSE, Bar, bars_of, comparison_picture

WORSE_BY, BETTER_BY = 0.3, -0.2


def slices(counts: dict[str, int], **differences: float) -> list[Slice]:
    return [
        Slice("topic", name, count, 2.5, 2.5, differences.get(name, BETTER_BY), 0.5, 0.05)
        for name, count in counts.items()
    ]


@pytest.fixture
def scores(tmp_path: Path) -> Path:
    """Of 40 conversations about code, where the candidate is worse by 0.3 bits per byte, and 40 others."""
    random = np.random.default_rng(1)
    topics = ["code"] * 40 + ["travel"] * 40
    byte_counts = random.integers(80, 400, 80).astype(float)
    champion = byte_counts * np.log(2) * 2.5
    shift = np.where(np.array(topics) == "code", WORSE_BY, BETTER_BY) + random.normal(0, 0.05, 80)
    candidate = champion + byte_counts * np.log(2) * shift
    path = tmp_path / "scores.parquet"
    pl.DataFrame(
        {"topic": topics, "bytes": byte_counts, "candidate_nats": candidate, "champion_nats": champion}
    ).write_parquet(path)
    return path


def test_each_slice_has_its_interval(scores: Path) -> None:
    rare = replace(slices({"rare": 19})[0], p_value=None)  # too few to judge: not drawn
    report = replace(GOOD, slices=[*slices({"code": 40, "travel": 40}, code=WORSE_BY), rare])
    whole, code, travel = bars_of(report, scores)
    assert (whole.name, whole.low, whole.high) == ("all", GOOD.interval_low, GOOD.interval_high)
    assert (code.name, code.colour) == ("topic code", WORSE) and (travel.name, travel.colour) == (
        "topic travel",
        BETTER,
    )
    assert code.low is not None and code.high is not None
    assert code.low < WORSE_BY < code.high and code.high - code.low < 0.1
    none = bars_of(report, scores.with_name("of an older evaluation"))[1]
    assert none.low is None and none.colour == EITHER


def test_of_many_slices_those_that_differ_most_are_shown(scores: Path) -> None:
    many = slices({f"t{number}": 30 for number in range(40)}, t7=WORSE_BY)
    bars = bars_of(replace(GOOD, slices=many), scores)
    assert len(bars) == ROWS and bars[1].name == "topic t7"
    assert bars_of(replace(GOOD, difference=None), scores) == []


@pytest.mark.parametrize("effect", [None, -0.013])
def test_names_that_come_from_data_are_no_formulas(effect: float | None) -> None:
    bars = [Bar("all", 90, -0.1, -0.2, 0.0), Bar("topic $\\frac{ and 日本 <b>" + "x" * 90, 40, 0.1, None, None)]
    png = base64.b64decode(comparison_picture(bars, effect))
    assert png.startswith(b"\x89PNG") and len(png) < 120_000
