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
    assert {name: each["value"] for name, each in held.items()} == {
        "false alarms, random halves of one month (4)": 0.0,
        "false alarms, random thirds: a month and two references (2)": 0.0,
        "a 20% change of the mix of topics found (2)": 1.0,
        "broken feeds told from drift (11)": 1.0,
        "broken feeds: truncated (3)": 1.0,
        "broken feeds: role-swapped (1)": 1.0,
        "broken feeds: wrong encoding (3)": 1.0,
        "broken feeds: doubled (2)": 1.0,
        "broken feeds: one template flooding (2)": 1.0,
        "sound months and new sources called broken (1)": 0.0,
    }
    assert all(each["ok"] is True for each in held.values())


def test_a_share_beyond_its_bound_is_not_ok() -> None:
    def of(trues: int) -> list[bool]:
        return [place < trues for place in range(40)]

    alarms = [quality_gate._at_most("alarms", of(trues), 0.05) for trues in (2, 3)]
    found = [quality_gate._at_least("found", of(trues), 0.95) for trues in (38, 37)]
    assert [each["value"] for each in (*alarms, *found)] == [0.05, 0.075, 0.95, 0.925]
    assert [each["ok"] for each in (*alarms, *found)] == [True, False, True, False]


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
    cost = quality_gate_cost.Cost(61.0, {"validate": 20.0, "profile": 5.0, "drift": 61.0}, 40.0, 1_400_000_000, 2.5)
    rows = {each["name"].rpartition(", ")[2]: each for each in quality_gate_cost._rows(cost, 1000)}
    assert rows["together"]["ok"] is False and rows["peak memory with Postgres"]["ok"] is True
    assert rows["in the snapshot"]["value"] == 2.5
