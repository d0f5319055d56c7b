"""profile: the month in numbers, checked against the data itself."""

import json
from statistics import median

import pytest

from tests.quality.snapshots import Bench, Conversation
from theta_ml.quality.profile import PROFILE, STAGE

Months = dict[str, list[Conversation]]


def test_numbers_are_those_of_the_data(bench: Bench, chats: Months) -> None:
    profile, folder = bench.run(STAGE, chats)
    rows = chats["2026-05"]
    assert profile.statistics["conversations"] == len(rows)
    assert profile.statistics["messages"] == sum(len(row["messages"]) for row in rows)
    assert profile.statistics["turns_median"] == median(len(row["messages"]) for row in rows)
    ratings = [row["rating"] for row in rows if "rating" in row]
    assert profile.statistics["rating_mean"] == pytest.approx(sum(ratings) / len(ratings))
    assert profile.statistics["missing_topic"] == 1.0
    assert profile.languages == {"en": len(rows)} and profile.sources == {"topical_chat": len(rows)}
    document = json.loads((folder / PROFILE).read_text())
    assert document["statistics"] == profile.statistics
    assert sum(document["histograms"]["turns"]["counts"]) == len(rows)


def test_rare_topics_are_summed_up(bench: Bench, orders: Months) -> None:
    rows = [{**row, "topics": [f"topic {place % 7}"]} for place, row in enumerate(orders["2026-03"])]
    profile, _ = bench.run(STAGE, {"2026-03": rows}, most=2)
    assert profile.topics == {"topic 0": 22, "topic 1": 22, "(other)": 106}


def test_an_empty_month_has_a_profile(bench: Bench, chats: Months) -> None:
    profile, folder = bench.run(STAGE, chats | {"2026-06": []})
    assert profile.statistics["conversations"] == 0.0 and profile.topics == {}
    json.loads((folder / PROFILE).read_text(), parse_constant=lambda name: pytest.fail(name))
