"""Time: backfills in any order and at once, reruns, cleared tasks, a run that ends after a newer one, a rollback.

THETA_HISTORIES says how many orders of each kind are tried; the first few are always the same.
"""

import os
import random
from functools import partial

import pytest

from tests.registry.history import Clock, History, Oracle, Row, Run, again, at_once
from tests.registry.pipeline import Pipeline
from theta_ml.month import Month
from theta_ml.registry.ledger import CROWNING

ORDERS = range(int(os.environ.get("THETA_HISTORIES", "2")))
YEAR = [
    Run("2026-01", "m01", 3.0),
    Run("2026-02", "m02", 2.8),
    Run("2026-03", "m03", 2.9),  # worse than February's
    Run("2026-04", "m04", sound=False),
    Run("2026-05", "m05", 2.6),
    Run("2026-06", "m06", 2.4),  # rolled back
    Run("2026-07", "m07", 2.3),  # while the rollback holds
    Run("2026-08", "m08", 2.2),
    Run("2026-09", "m09", 2.2),  # no better
    Run("2026-10", "m10", 2.0, speaks=False),
    Run("2026-11", "m11", 1.9),
    Run("2026-12", "m12", 1.8),
]
ROLLED_BACK, EXPIRED = "2026-06", "2026-07"
STEADY = [Run(run.month, run.run_id, 3 - number / 10, run.month not in ("2026-03", "2026-10"), run.sound)
          for number, run in enumerate(YEAR)]  # fmt: skip
"""A year in which a no is a no whoever is champion."""


@pytest.fixture
def history(measuring: Pipeline, monkeypatch: pytest.MonkeyPatch) -> History:
    clock = Clock()
    for module in ("ledger", "by_hand"):
        monkeypatch.setattr(f"theta_ml.registry.{module}.clock", clock)
    return History(measuring, clock)


def in_order() -> list[Row]:
    """What the rules give for the year, one run after the other."""
    oracle, rows = Oracle(), []
    for run in YEAR:
        rows.append(oracle.decide(run))
        rows += [oracle.roll_back()] if run.month == ROLLED_BACK else []
        oracle.held = oracle.held and run.month != EXPIRED
    return rows


def main_line(history: History) -> list[Row]:
    """One row a month: of runs that trained the same at once it is the one that won."""
    found: dict[str, Row] = {}
    for entry, row in history.rows():
        name = entry.run_id.partition("-")[0] if not entry.run_id.startswith("by-hand") else "rollback"
        if name not in found or row.decision in CROWNING:
            found[name] = row
    return list(found.values())


def test_in_order(history: History) -> None:
    for run in YEAR:
        history.whole(run)
        if run.month == ROLLED_BACK:
            history.roll_back(days=40)
        if run.month == EXPIRED:
            history.expire()
    assert [row for _, row in history.rows()] == in_order() == list(history.expected())
    assert [row.decision for row in in_order()] == [
        "bootstrap", "promoted", "rejected", "blocked", "promoted", "promoted", "rolled_back", "evaluated", "promoted",
        "rejected", "rejected", "promoted", "promoted",
    ]  # fmt: skip


@pytest.mark.parametrize("seed", ORDERS)
def test_disturbed_the_main_line_ends_as_in_order(history: History, seed: int) -> None:
    chance = random.Random(seed)
    disturbances = chance.sample(["rerun", "backfill", "twice", "rival", "late"] * 2 + [""] * 2, 12)
    late: list[Run] = []
    for run, disturbance in zip(YEAR, disturbances, strict=True):
        history.measure(run)
        late += _disturb(history, run, disturbance, chance)
        if run.month == ROLLED_BACK:
            history.roll_back(days=40)
        if run.month == EXPIRED:
            history.expire()
    for run in late:
        history.promote(run)
    assert [row for _, row in history.rows()] == list(history.expected())
    main = {run.run_id for run in YEAR}
    assert main <= {entry.run_id for entry in history.pipeline.ledger}
    backfills = [row for entry, row in history.rows() if "backfill" in entry.run_id]
    assert {row.decision for row in backfills} <= {"evaluated"}
    assert [row for row in main_line(history) if row not in backfills] == in_order()
    assert _champion(history) == YEAR[-1].mark


def _disturb(history: History, run: Run, disturbance: str, chance: random.Random) -> list[Run]:
    """Concludes the run, and does something else beside it; runs that are to be promoted when the year is over."""
    if disturbance == "twice":  # a second attempt of its tasks, while the first goes on
        at_once(partial(history.conclude, run), partial(history.conclude, run))
    elif disturbance == "rival":
        rival = again(run, "rival")
        history.measure(rival)
        at_once(partial(history.conclude, run), partial(history.conclude, rival))
    elif disturbance == "late":
        other = again(run, "late")
        history.measure(other)
        history.decide(other)
        history.conclude(run)
        return [other]
    elif disturbance == "backfill" and (champion := history.pipeline.champion) and champion.month > "2026-01":
        before = str(Month.parse(champion.month).shift(-1))
        backfill = Run(before, f"backfill-{run.run_id}", 1.0)
        history.measure(backfill)
        at_once(partial(history.conclude, run), partial(history.conclude, backfill))
    else:
        history.conclude(run)
        if disturbance == "rerun":
            history.rerun(chance.choice([run, *history.runs.values()]))
    return []


@pytest.mark.parametrize("seed", ORDERS)
def test_any_order_ends_with_the_same_champion(history: History, seed: int) -> None:
    chance = random.Random(100 + seed)
    order = chance.sample(STEADY, len(STEADY))
    slow = chance.choice([run for run in order[:6] if run.sound])
    left = [run for run in order if run is not slow]
    history.measure(slow)
    history.decide(slow)
    while left:
        count = chance.choice([1, 1, 2])
        several, left = left[:count], left[count:]
        for run in several:
            history.measure(run)
        at_once(*(partial(history.conclude, run) for run in several))
    history.promote(slow)
    history.rerun(chance.choice(order))
    entries = history.pipeline.ledger
    assert sorted(entry.run_id for entry in entries) == sorted(run.run_id for run in STEADY)
    assert [row for _, row in history.rows()] == list(history.expected())
    assert _champion(history) == STEADY[-1].mark
    crowned = [row.month for _, row in history.rows() if row.decision in CROWNING]
    assert crowned == sorted(crowned)
    oracle = Oracle()
    plain = {run.month: oracle.decide(run).decision for run in STEADY}
    for _, row in history.rows():
        yes = {row.decision, plain[row.month]} <= set(CROWNING)  # whichever is first makes the first champion
        assert row.decision == "evaluated" or row.decision == plain[row.month] or yes


def _champion(history: History) -> str | None:
    return list(history.rows())[-1][1].after
