"""`theta bench quality-gate`: its rows, and its months."""

import random

import pytest

from theta_ml.bench import quality_gate, quality_gate_cost
from theta_ml.bench.landing import FOLDER
from theta_ml.bench.quality_gate_data import corpus, real_months, table
from theta_ml.bench.quality_gate_feeds import mixed

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason=f"no {FOLDER}")


def test_rows_say_what_they_are_held_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quality_gate, "LARGEST_HALF", 100)
    monkeypatch.setattr(quality_gate, "CORPORA", ("topical_chat",))
    monkeypatch.setattr(quality_gate, "HALVES", {"topical_chat": 4})
    monkeypatch.setattr(quality_gate, "THIRDS", 2)
    monkeypatch.setattr(quality_gate, "MIXES", 2)
    monkeypatch.setattr(quality_gate, "BREAKS", 1)
    monkeypatch.setattr(quality_gate, "real_months", lambda least: dict(list(real_months(least).items())[:2]))
    rows = {each["name"]: each for each in quality_gate.verdict_rows()}
    held = {name: each for name, each in rows.items() if each["target"] is not None}
    assert len(held) == 10 and all(0 <= each["value"] <= 1 for each in rows.values())
    for name, each in held.items():
        right = each["value"] <= 0.05 if each["target"] == 0.05 else each["value"] >= 0.95
        assert each["ok"] is right, name
    assert held["broken feeds told from drift (11)"]["value"] == 1.0


def test_topics_move_by_what_was_asked_for() -> None:
    topics: dict[str, list[dict[str, object]]] = {}
    for each in corpus("sgd"):
        topics.setdefault(each["topics"][0], []).append(each)
    before, after = mixed(topics, 1500, 0.2, random.Random(1))
    shares = [
        {topic: sum(each["topics"][0] == topic for each in month) / len(month) for topic in topics}
        for month in (before, after)
    ]
    assert sum(abs(shares[0][topic] - shares[1][topic]) for topic in topics) / 2 == pytest.approx(0.2, abs=0.05)
    assert not {each["id"] for each in before} & {each["id"] for each in after}


def test_a_month_of_any_size_is_made_of_real_conversations() -> None:
    rows = list(quality_gate_cost._repeated("2026-02", 3000))
    assert 3000 <= sum(len(row["messages"]) for row in rows) < 3500
    assert len({row["id"] for row in rows}) == len(rows)
    assert {row["created_at"][:7] for row in rows} == {"2026-02"}
    assert table(rows)["occurred_at"].null_count == 0


def test_the_cost_is_that_of_all_three(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = quality_gate_cost.Cost(61.0, {"validate": 20.0, "profile": 5.0, "drift": 61.0}, 40.0, 1_400_000_000)
    rows = {each["name"].rpartition(", ")[2]: each for each in quality_gate_cost._rows(cost, 1000)}
    assert rows["together"]["ok"] is False and rows["peak memory of all"]["ok"] is True
