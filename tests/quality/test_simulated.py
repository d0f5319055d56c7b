"""The demo's story, as this room tells it: nothing to compare with, drift, a broken feed, a quiet month."""

import json
from pathlib import Path

from tests.quality.landed import Landed
from tests.quality.snapshots import Bench, Conversation
from theta_ml.landing.conversation import Defaults, Rejected, parse
from theta_ml.landing.simulation import month_lines
from theta_ml.month import Month
from theta_ml.quality import drift


def test_the_story_comes_about_from_the_data(bench: Bench, database_url: str, tmp_path: Path) -> None:
    zone = Landed(database_url, tmp_path)
    months: dict[str, list[Conversation]] = {}
    story = []
    for index in range(4):
        month = str(Month(2026, 1).shift(index))
        months[month] = landed(index, 7)
        validation, _ = zone.validate(months)
        drifting, _ = bench.run(drift.STAGE, months)
        story.append((validation.passed, drifting.outcome))
        if drifting.outcome == "drifted":
            assert {"topic", "vocabulary"} <= {column.column for column in drifting.columns if column.drifted}
        if not validation.passed:
            del months[month]  # the snapshot leaves out months that were blocked
    assert story == [(True, "no_reference"), (True, "drifted"), (False, "broken"), (True, "stable")]


def test_a_second_year_of_the_story_passes_too(database_url: str, tmp_path: Path) -> None:
    months = {str(Month(2026, 1).shift(index)): landed(index, 0) for index in range(8) if index % 4 != 2}
    report, _ = Landed(database_url, tmp_path).validate(months)
    assert report.month == "2026-08" and report.passed, report.sentence


def landed(index: int, seed: int) -> list[Conversation]:
    """The month's lines that the import takes."""
    return [json.loads(line) for line in month_lines(Month(2026, 1), index, seed) if lands(line)]


def lands(line: str) -> bool:
    try:
        parse(line.encode(), Defaults(None, "simulated", None))
    except Rejected:
        return False
    return True
