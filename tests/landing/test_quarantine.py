"""A conversation that breaks a rule of the suites is set aside, and no one after the snapshot sees it."""

import json
import random
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.landing.feed import record
from tests.landing.test_snapshot import Landing, ids, noun
from theta_ml.corpus.months import read_month
from theta_ml.landing import suites
from theta_ml.landing.quarantine import rules
from theta_ml.landing.snapshot import SnapshotSpec, read_months
from theta_ml.lineage import landed
from theta_ml.quality.validate import set_aside
from theta_ml.stage import Inputs, StageFailed
from theta_ml.store import Store


@pytest.fixture
def landing(database_url: str, tmp_path: Path) -> Landing:
    return Landing(database_url, tmp_path)


def said(number: int, text: str, **changes: Any) -> dict[str, Any]:
    """The reply is `text`."""
    talk = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": text} | changes]
    return record(number, messages=talk)


BROKEN = {
    "unreadable characters": said(1, "caf\ufffd"),
    "wrong encoding": said(2, "Itâ€™s here"),
    "control characters": said(3, "\x1b[31mred"),
    "error messages": said(4, "<html><body>502 Bad Gateway</body></html>"),
    "message ratings in range": said(5, "Fine", rating=100),
    "conversation ratings in range": record(6, rating=-7),
    "conversations with words": record(7, messages=[{"role": "user", "content": "?!"}]),
    "plausible times": said(8, "Hi", created_at="2031-01-01T00:00:00Z"),
    "possible message length": said(9, "long " * 50_000),
    "times in order": record(
        10,
        messages=[
            {"role": "user", "content": "Later", "created_at": "2026-02-11T12:00:09Z"},
            {"role": "assistant", "content": "Earlier", "created_at": "2026-02-11T12:00:01Z"},
        ],
    ),
}
SOUND = [
    record(20, messages=[{"role": "user", "content": "好的，谢谢"}, {"role": "assistant", "content": "🙂"}]),
    said(21, "À bientôt – that’s “fine”… 99 % of it\tis\nOK, São Paulo"),
    said(22, "Error handling is what you ask about? An error is a value."),
    record(23, rating=5, messages=[{"role": "user", "content": "42"}]),
]


def test_each_rule_sets_its_conversation_aside_and_no_sound_one(landing: Landing) -> None:
    landing.land(*BROKEN.values(), *SOUND)
    snapshot, path = landing.snapshot("2026-02")
    table = read_months(path, quarantined=True)
    faults = dict(zip(table["conversation_id"].to_pylist(), table["faults"].to_pylist(), strict=True))
    for name, conversation in BROKEN.items():
        assert name in faults[conversation["id"]], name
    assert [faults[conversation["id"]] for conversation in SOUND] == [[]] * len(SOUND)
    assert set(BROKEN) <= set(snapshot.quarantined) and min(snapshot.quarantined.values()) == 1
    assert snapshot.new_conversations == snapshot.conversations == len(SOUND)
    assert snapshot.months["2026-02"]["quarantined"] == len(BROKEN)


def test_messages_of_one_instant_are_in_order(landing: Landing) -> None:
    dice = random.Random(3)
    for number in range(60):
        instant = f"2026-02-{number % 28 + 1:02d}T12:00:{dice.random() * 60:09.6f}Z"
        talk = [{"role": "user", "content": "Hello", "created_at": instant}] * dice.randrange(2, 12)
        landing.land(record(number, messages=talk, created_at="2026-02-01T09:30:00.1Z"))
    snapshot, _ = landing.snapshot("2026-02")
    assert (snapshot.quarantined, snapshot.new_conversations) == ({}, 60)


def test_nothing_after_the_snapshot_reads_them_whatever_the_month(landing: Landing) -> None:
    landing.land(*BROKEN.values(), *SOUND)
    sound = sorted(conversation["id"] for conversation in SOUND)
    _, path = landing.snapshot("2026-04")
    assert ids(path) == sound
    units = [reading.batch for reading in read_month(path, "2026-02")]
    assert [each for batch in units for each in batch.conversations["conversation_id"]] == sound
    assert sum(len(batch.messages) for batch in units) == sum(len(each["messages"]) for each in SOUND)


def test_an_edited_rule_changes_the_key_and_whom_it_sets_aside(
    landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    landing.land(record(1, language="en"), record(2, language="xx%s"))
    before = landing.run(SnapshotSpec("2026-02"), "r1")
    append(tmp_path, monkeypatch, "expect_column_values_to_not_match_regex", {"column": "language", "regex": "%s$"})
    after = landing.run(SnapshotSpec("2026-02"), "r1")
    assert after.key != before.key
    assert ids(Store(landing.settings.artifacts, landing.home).open(after.uri).path) == ["c00001"]


@pytest.mark.parametrize(
    ("kind", "kwargs", "says"),
    [
        (
            "expect_column_values_to_be_between",
            {"column": "nothing", "max_value": 1},
            'column "nothing" does not exist',
        ),
        ("expect_column_mean_to_be_between", {"column": "turns", "max_value": 1}, "no row can be judged by"),
        ("expect_column_values_to_be_in_set", {"column": "turns"}, "value_set"),
        (
            "expect_column_values_to_be_between",
            {"column": "turns", "max_value": {"$PARAMETER": "x"}},
            "must be numbers",
        ),
        ("expect_column_values_to_be_between", {"column": "turns", "max_value": "many"}, "cannot be applied"),
    ],
)
def test_a_rule_that_cannot_be_applied_says_so(
    landing: Landing, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, kwargs: dict[str, Any], says: str
) -> None:
    landing.land(record(1))
    append(tmp_path, monkeypatch, kind, kwargs)
    with pytest.raises(StageFailed, match=says):
        landing.snapshot("2026-02")


def append(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, kwargs: dict[str, Any]) -> None:
    """A rule of conversations more, in a copy of expectations/."""
    for name in suites.SUITES:
        (tmp_path / f"{name}.json").write_text((suites.FOLDER / f"{name}.json").read_text())
    document = json.loads((tmp_path / "conversations.json").read_text())
    document["expectations"].append({"type": kind, "kwargs": kwargs, "meta": {"name": "own", "quarantine": True}})
    (tmp_path / "conversations.json").write_text(json.dumps(document))
    monkeypatch.setattr(suites, "FOLDER", tmp_path)


def test_every_rule_of_ours_has_a_reason() -> None:
    assert all(not rule.reason.startswith("breaks the rule") for rule in rules()) and len(rules()) > 12


def test_the_table_says_which_and_why_and_forgets_what_is_erased(landing: Landing) -> None:
    landing.land(*BROKEN.values(), *SOUND)
    result = landing.run(SnapshotSpec("2026-02"), "r1")
    inputs = Inputs(snapshot=Store(landing.settings.artifacts, landing.home).open(result.uri))
    with psycopg.connect(landing.url, autocommit=True) as connection:
        for _ in range(2):
            set_aside(connection, inputs, noun(inputs["snapshot"]), "r1")
        rows = connection.execute("SELECT conversation_id, rule, reason FROM quarantine WHERE month = '2026-02'")
        found = {(conversation_id, rule): reason for conversation_id, rule, reason in rows}
        assert found["c00001", "unreadable characters"] == "has a character that a conversion could not read (U+FFFD)"
        landed.remove(connection, frozenset(["c00001"]), frozenset())
        left = connection.execute("SELECT count(*) FROM quarantine").fetchone()
        assert left == (len(found) - 1,)
        set_aside(connection, inputs, noun(inputs["snapshot"]), "r2")  # from a snapshot that still holds it
        assert connection.execute("SELECT count(*) FROM quarantine").fetchone() == left


def test_the_view_shows_what_the_newest_snapshot_of_each_month_set_aside(landing: Landing) -> None:
    landing.land(*BROKEN.values())
    rows = [
        ("old", "c00001", "2026-02", "a", 1),
        ("new", "c00001", "2026-02", "a", 2),
        ("new", "c00002", "2026-02", "b", 2),
    ]
    with psycopg.connect(landing.url) as connection:
        connection.cursor().executemany(
            "INSERT INTO quarantine (snapshot_key, conversation_id, month, rule, reason, run_id, quarantined_at)"
            " VALUES (%s, %s, %s, %s, 'is odd', 'r1', make_date(2026, 3, %s))",
            [*rows, ("other", "c00001", "2026-01", "c", 1)],
        )
        found = connection.execute("SELECT snapshot_key, month, rule FROM newest_quarantine ORDER BY month, rule")
        assert found.fetchall() == [("other", "2026-01", "c"), ("new", "2026-02", "a"), ("new", "2026-02", "b")]
