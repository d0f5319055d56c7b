"""The demo's months: the same seed tells the same story, and the story has its turns."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.landing.feed import count, land
from theta_ml.landing.simulation import STARTER, month_lines
from theta_ml.month import Month

START = Month.parse("2026-01")


def conversations(index: int, seed: int = 7) -> list[dict[str, Any]]:
    parsed = []
    for line in month_lines(START, index, seed):
        try:
            parsed.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return parsed


def texts(records: list[dict[str, Any]], role: str = "assistant") -> list[str]:
    return [each["content"] for record in records for each in record["messages"] if each["role"] == role]


def topics(records: list[dict[str, Any]]) -> set[str]:
    return {record["topics"][0] for record in records}


def test_the_same_seed_says_the_same() -> None:
    assert list(month_lines(START, 1, 7)) == list(month_lines(START, 1, 7))
    assert list(month_lines(START, 1, 7)) != list(month_lines(START, 1, 8))


@pytest.mark.parametrize("index", range(8))
def test_a_month_is_distinct_and_within_its_month(index: int) -> None:
    records = conversations(index)
    said = Counter("\n".join(each["content"] for each in record["messages"]).lower() for record in records)
    if index % 4 != 2:
        assert said.most_common(1)[0][1] == 1
        assert not [text for text in texts(records) if re.search(r"\{\w+\}", text)], "a slot was left unfilled"
    assert {record["created_at"][:7] for record in records} == {str(START.shift(index))}
    assert len({record["id"] for record in records}) == len(records)


def test_the_story_has_its_turns() -> None:
    normal, drift, damaged, quiet = (conversations(index) for index in range(4))
    assert len(topics(drift) - topics(normal)) >= 2
    known = topics(normal)
    new = [record for record in drift if record["topics"][0] not in known]
    assert len(new) > 0.5 * len(drift)
    assert len(damaged) < 0.4 * len(normal)
    replies = texts(damaged)
    spoilt = [text for text in replies if "502 Bad Gateway" in text or len(text) <= 3 or "\ufffd" in text]
    assert len(spoilt) > 0.5 * len(replies)
    assert len(quiet) < 0.6 * len(normal)
    assert topics(quiet) <= topics(normal) | topics(drift)


def test_starters_are_many_and_whole() -> None:
    files = list(STARTER.glob("*.jsonl"))
    assert len(files) >= 6
    for path in files:
        dialogues = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(dialogues) >= 8, path
        assert all(len(dialogue["turns"]) % 2 == 0 for dialogue in dialogues), path


def test_landing_a_month_twice_adds_nothing(database_url: str, tmp_path: Path) -> None:
    path = tmp_path / "month.jsonl"
    path.write_text("\n".join(month_lines(START, 2, 7)))
    first, second = land(database_url, path), land(database_url, path)
    assert first.counts.conversations == count(database_url, "conversations") > 100
    assert set(first.reasons) == {"broken JSON", "unknown role"}
    assert second.counts.conversations == 0
