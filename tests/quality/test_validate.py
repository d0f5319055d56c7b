"""validate: good months pass, damaged ones are blocked, in words that say why, and nobody's words are in them."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.quality import damage
from tests.quality.landed import LATER, Landed, Months
from tests.quality.snapshots import Conversation
from theta_ml.landing import snapshot
from theta_ml.landing import suites as suites_module
from theta_ml.landing.detaching import detach
from theta_ml.quality import tables as tables_module
from theta_ml.quality import validate
from theta_ml.quality.history import Past, usual_user, usual_volume, whole_months
from theta_ml.quality.validate import ValidationReport
from theta_ml.stage import StageFailed


@pytest.fixture
def landed(database_url: str, tmp_path: Path) -> Landed:
    return Landed(database_url, tmp_path)


def until(months: Months, last: str) -> Months:
    return {month: rows for month, rows in months.items() if month <= last}


def failed(report: ValidationReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


@pytest.mark.parametrize(
    ("name", "month"), [("irc", "2006-05"), ("irc", "2007-02"), ("chats", "2026-01"), ("orders", "2026-03")]
)
def test_real_months_pass(landed: Landed, request: pytest.FixtureRequest, name: str, month: str) -> None:
    report, _ = landed.validate(until(request.getfixturevalue(name), month))
    assert report.passed, report.sentence
    assert sum(report.quarantined.values()) < 10


def test_a_change_of_source_is_not_damage(landed: Landed, orders: Months, chats: Months) -> None:
    report, _ = landed.validate(until(orders, "2026-02") | {"2026-03": chats["2026-03"]})
    assert report.passed, report.sentence


SEEDS = count()
Damage = Callable[[list[Conversation]], list[Conversation]]


def edited(edit: damage.Edit, share: float, role: str = "") -> Damage:
    seed = next(SEEDS)
    return lambda rows: damage.texts(rows, edit, share, role, seed)


DAMAGES: dict[str, tuple[Damage, str]] = {
    "mojibake": (edited(damage.mojibake, 0.08), "wrong encoding"),
    "latin-1": (edited(damage.read_as_latin1, 0.08), "wrong encoding"),
    "replacement characters": (edited(damage.replaced, 0.08), "unreadable characters"),
    "question marks": (edited(damage.question_marks, 0.08), "lost characters"),
    "escape sequences": (edited(damage.escape_sequences, 0.08), "control characters"),
    "error page": (edited(damage.error_page, 0.2, "assistant"), "most frequent reply"),
    "html page": (edited(damage.html_page, 0.08, "assistant"), "pages and objects"),
    "json": (edited(damage.json_object, 0.08), "pages and objects"),
    "server errors": (edited(damage.fault, 0.08, "assistant"), "error messages"),
    "null": (edited(lambda text, dice: "null", 0.08, "assistant"), "error messages"),
    "base64": (edited(damage.encoded, 0.08), "encoded text"),
    "empty replies": (edited(lambda text, dice: " " * dice.randrange(1, 9), 0.2, "assistant"), "empty replies"),
    "empty messages": (edited(lambda text, dice: "…", 0.3, "user"), "empty messages"),
    "no text": (edited(lambda text, dice: "", 0.05, "user"), "possible message length"),
    "one user message": (edited(lambda text, dice: "ping", 0.6, "user"), "most frequent user message"),
    "cut replies": (edited(lambda text, dice: text[:24], 1.0, "assistant"), "cut replies"),
    "short replies": (edited(lambda text, dice: text[: dice.randrange(3, 16)], 1.0, "assistant"), "usual reply length"),
    "swapped roles": (damage.swapped, "users speak first"),
    "no replies": (damage.unanswered, "answered conversations"),
    "one role": (damage.one_speaker, "roles alternate"),
    "echo": (damage.echoed, "echoes"),
    "landed twice": (lambda rows: rows + damage.renamed(rows[: len(rows) // 4]), "duplicate conversations"),
    "half gone": (lambda rows: rows[: len(rows) // 2], "usual volume"),
    "too few": (lambda rows: rows[:12], "enough conversations"),
    "landed fifteen times": (lambda rows: rows * 15, "usual volume"),
    "rating of 100": (lambda rows: damage.rated(rows[:50], 100.0) + rows[50:], "conversation ratings in range"),
    "no messages": (lambda rows: [{**c, "messages": []} for c in rows[:9]] + rows[9:], "possible number of messages"),
    "no words": (lambda rows: damage.texts(rows[:9], lambda text, dice: "?!") + rows[9:], "conversations with words"),
    "backwards": (lambda rows: damage.timed(rows[:9], -2.0) + rows[9:], "times in order"),
    "years apart": (lambda rows: damage.timed(rows[:9], 4e7) + rows[9:], "plausible times"),
    "of another year": (lambda rows: damage.timed(rows, 4e6), "inside the month"),
    "no code": (lambda rows: damage.in_language(rows[:9], "<unknown>") + rows[9:], "languages by their codes"),
    "another language": (lambda rows: damage.in_language(rows, "fi"), "new languages"),
    "flooded by one user": (lambda rows: damage.by_users(rows, 0.3), "share of one user"),
}

TOGETHER = [
    ["mojibake", "question marks", "escape sequences", "base64", "null", "no messages", "no words"],
    ["latin-1", "replacement characters", "json", "empty messages", "no code", "rating of 100"],
    ["html page", "server errors", "no text", "landed twice", "years apart", "flooded by one user"],
    ["swapped roles", "backwards", "another language"],
    ["error page", "empty replies", "one user message", "too few"],
    ["cut replies"],
    ["short replies", "half gone"],
    ["no replies", "landed fifteen times"],
    ["one role"],
    ["echo", "of another year"],
]
"""Kinds that do not hide each other: one month has them all, for a validation takes seconds."""


def test_every_kind_of_damage_is_tried() -> None:
    assert sorted(name for names in TOGETHER for name in names) == sorted(DAMAGES)


@pytest.mark.parametrize("names", TOGETHER, ids=" + ".join)
def test_damage_is_blocked(landed: Landed, chats: Months, names: list[str]) -> None:
    rows = chats["2026-05"]
    for name in names:
        rows = DAMAGES[name][0](rows)
    report, _ = landed.validate(chats | {"2026-05": rows})
    assert {DAMAGES[name][1] for name in names} <= failed(report), report.sentence
    assert report.sentence.startswith("2026-05 is blocked: ")


@pytest.mark.parametrize("names", [["mojibake", "error page", "empty replies", "cut replies"], ["swapped roles"]])
def test_damage_of_uneven_real_months_is_blocked(landed: Landed, irc: Months, names: list[str]) -> None:
    rows = irc["2007-02"]
    for name in names:
        rows = DAMAGES[name][0](rows)
    report, _ = landed.validate(irc | {"2007-02": rows})
    assert {DAMAGES[name][1] for name in names} <= failed(report), report.sentence


def test_a_user_who_floods_the_month_blocks_it(landed: Landed, chats: Months) -> None:
    even = {month: damage.by_users(rows) for month, rows in until(chats, "2026-02").items()}
    assert landed.validate(even)[0].passed
    report, _ = landed.validate(even | {"2026-02": damage.by_users(chats["2026-02"], 0.3)})
    assert report.sentence == "2026-02 is blocked: 42 % of the conversations are one user's (at most 20 %)"


def test_a_team_of_three_has_a_busiest_user_and_always_had() -> None:
    assert usual_user([], 0.2) == usual_user([Past("2026-01", 40.0, 0.02)], 0.2) == 0.2
    assert usual_user([Past("2026-01", 40.0, 0.4), Past("2026-02", None, 0.36)], 0.2) == pytest.approx(0.6)


def test_what_is_judged_and_what_is_set_aside_agree(landed: Landed, chats: Months) -> None:
    rows = chats["2026-01"]
    for name in ("no messages", "no words", "rating of 100"):
        rows = DAMAGES[name][0](rows)
    report, _ = landed.validate({"2026-01": rows})
    observed = {check.name: check.observed for check in report.checks}
    for rule in ("possible number of messages", "conversations with words", "conversation ratings in range"):
        share = observed[rule]
        assert isinstance(share, float) and round(share * len(rows)) == report.quarantined[rule] > 0


def test_a_replayed_month_is_blocked(landed: Landed, chats: Months) -> None:
    again = [{**c, "created_at": "2026-05-09T00:00:00+00:00"} for c in damage.renamed(chats["2026-04"])]
    report, _ = landed.validate(chats | {"2026-05": again})
    assert report.sentence == (
        "2026-05 is blocked: 100 % of the conversations repeat one of the months before word for word (at most 20 %)"
    )


def test_the_sentence_names_number_and_threshold(landed: Landed, chats: Months) -> None:
    pages = damage.texts(chats["2026-05"], damage.error_page, 0.4, "assistant")
    report, _ = landed.validate(chats | {"2026-05": pages})
    assert re.search(r"blocked: (40|41|42|43) % of the replies are the same text \(at most 10 %\)", report.sentence)


def test_no_rows_is_no_pass(landed: Landed, chats: Months) -> None:
    report, folder = landed.validate(chats | {"2026-06": []})
    assert failed(report) == {"enough conversations", "enough messages"}
    assert "the month has 0 conversations (at least 20)" in report.sentence
    assert (folder / "report.html").exists()


def test_exactly_what_had_landed_is_judged_and_a_running_month_by_what_has_passed(
    landed: Landed, chats: Months, database_url: str
) -> None:
    """The rows land in the year 2000; whatever lands later is not seen."""
    landed.land(chats | {"2026-05": chats["2026-05"][:55]})
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO conversations (conversation_id, source, occurred_at) SELECT 'late-' || number, 'late',"
            " '2026-05-03' FROM generate_series(1, 500) AS number"
        )
    whole, _ = landed.judge("2026-05", watermark="2026-06-01T00:00:00+00:00", min_conversations=10)
    running, _ = landed.judge("2026-05", watermark="2026-05-16T12:00:00+00:00")
    assert failed(whole) == {"usual volume"} and "55 conversations" in whole.sentence
    assert running.passed, running.sentence


def test_uneven_feeds_get_more_room() -> None:
    assert usual_volume([100, 100, 100, 100], 1.0, 0.6, 0.25, 10.0) == (60, 1000)
    low, high = usual_volume([40, 200, 90, 300, 50, 120], 1.0, 0.6, 0.25, 10.0)
    assert low is not None and high is not None and low < 30 and high >= 1000
    assert usual_volume([100, 100], 1.0, 0.6, 0.25, 10.0) == (25, 1000)
    assert usual_volume([], 1.0, 0.6, 0.25, 10.0) == (None, None)


def test_a_small_month_does_not_open_the_band_for_a_year() -> None:
    assert usual_volume([50] + [5000] * 11, 1.0, 0.6, 0.25, 10.0) == (3000, 50000)
    assert usual_volume([2800] + [5000] * 11, 1.0, 0.6, 0.25, 10.0) == (2240, 50000)  # each August, say
    months, began = ["2026-01", "2026-02"], datetime(2026, 1, 29, tzinfo=UTC)
    assert whole_months(months, began) == ["2026-02"]
    assert whole_months(months, began.replace(day=2)) == whole_months(months, None) == months


def test_a_feed_that_died_on_the_fourth_is_seen_when_the_month_is_over(landed: Landed, chats: Months) -> None:
    """By the watermark that a run takes itself."""
    landed.land(chats | {"2026-05": chats["2026-05"][:16]})
    with psycopg.connect(landed.url) as connection:
        connection.execute("UPDATE conversations SET landed_at = occurred_at")
    report, _ = landed.judge("2026-05", watermark="", min_conversations=10)
    assert failed(report) == {"usual volume"}, report.sentence


def test_a_feed_that_begins_to_name_its_languages_brings_no_new_one(landed: Landed, chats: Months) -> None:
    unnamed = {month: damage.in_language(rows, None) for month, rows in chats.items()}
    report, _ = landed.validate(unnamed | {"2026-05": chats["2026-05"]})
    assert report.passed, report.sentence


def test_a_time_that_lost_its_zone_and_imports_that_rejected_much_block_the_month(
    landed: Landed, chats: Months
) -> None:
    landed.land(until(chats, "2026-01"))
    with psycopg.connect(landed.url) as connection:
        connection.execute(
            "INSERT INTO import_batches (file, conversations, rejected, turned_away)"
            " VALUES ('a', 60, 520, 500), ('b', 9, 9, 0)"
        )
        connection.execute("UPDATE conversations SET batch_id = 1")
        connection.execute("ALTER TABLE model_feedback ALTER given_at TYPE timestamp")
    report, _ = landed.judge("2026-01")
    assert report.sentence == (
        "2026-01 is blocked: 1 of the columns of conversations, messages and model_feedback are missing or of another"
        " type; 25 % of the rows of the imports that brought the month were rejected, for their id, date, roles"
        " or text (at most 10 %)"
    )


def test_a_month_that_left_meanwhile_is_not_judged_as_a_feed_that_broke(
    landed: Landed, orders: Months, monkeypatch: pytest.MonkeyPatch
) -> None:
    landed.land(until(orders, "2026-02"))
    frozen = landed.run(snapshot.STAGE, [], month="2026-02", watermark=LATER)
    original = tables_module._make

    def late(connection: psycopg.Connection, *arguments: Any) -> tables_module.FeatureTables:
        detach(connection, "2026-01")
        return original(connection, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(tables_module, "_make", late)
        with pytest.raises(StageFailed, match="2026-01 is detached: `theta landing attach 2026-01`"):
            landed.run(validate.STAGE, [frozen.uri], month="2026-02")
    monkeypatch.setattr(tables_module, "_make", None)  # nothing is made any more
    with pytest.raises(StageFailed, match="2026-01 is detached"):
        landed.run(validate.STAGE, [frozen.uri], month="2026-02")


def test_a_threshold_can_be_set_and_the_same_data_gives_the_same_report(landed: Landed, orders: Months) -> None:
    strict, _ = landed.validate(until(orders, "2026-01"), max_same_reply=0.01)
    assert failed(strict) == {"most frequent reply"}
    again, _ = landed.validate(until(orders, "2026-01"), max_same_reply=0.01, history_months=4)
    assert again == strict


def test_the_pages_hold_everything_and_nobodys_words(
    landed: Landed, chats: Months, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = damage.by_users(damage.rated(damage.texts(chats["2026-05"], damage.replaced, 0.2), 99.0), 0.5)
    report, folder = landed.validate(chats | {"2026-05": damage.swapped(rows)})
    page, out = (folder / "report.html").read_text(), "".join(capfd.readouterr())
    assert all(check.name in page for check in report.checks)
    assert report.quarantined["unreadable characters"] > 100 and "could not read (U+FFFD)" in page
    pages = [path.read_text() for path in folder.rglob("*") if path.is_file()]
    assert len(pages) == 10 and (folder / "data_docs" / "index.html").exists()
    assert not re.search(r"<script|<link|<img|https?://|url\(", "".join([*pages[:-1], page]))
    said = {m["content"] for c in rows for m in c["messages"] if len(m["content"]) > 15}
    names = said | {c["id"] for c in rows} | {"flood", "user-1"}
    assert not [name for name in names for text in [*pages, out] if name in text]
    assert len(out.splitlines()) < 12, "Great Expectations is kept quiet"


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of expectations/ that a test may edit."""
    folder = tmp_path / "expectations"
    folder.mkdir()
    for file in suites_module.FOLDER.glob("*.json"):
        (folder / file.name).write_text(file.read_text())
    monkeypatch.setattr(suites_module, "FOLDER", folder)
    return folder


def edit(path: Path, expectation: dict[str, Any]) -> None:
    document = json.loads(path.read_text())
    document["expectations"].append(expectation)
    path.write_text(json.dumps(document))


GERMAN = {
    "type": "expect_column_values_to_be_in_set",
    "kwargs": {"column": "language", "value_set": ["de"], "mostly": 0.9},
    "meta": {"name": "German only", "says": "{observed} of the conversations are not in German ({expected})"},
}


def test_an_edited_suite_judges_and_sets_aside_anew(landed: Landed, chats: Months, suites: Path) -> None:
    before, _ = landed.validate(until(chats, "2026-01"))
    edit(suites / "conversations.json", GERMAN)
    report, _ = landed.judge("2026-01")
    assert report.sentence == "2026-01 is blocked: 100 % of the conversations are not in German (at most 10 %)"
    assert before.passed and report.quarantined == before.quarantined == {}
    edit(suites / "conversations.json", GERMAN | {"meta": {"name": "German", "quarantine": True, "reason": "is not"}})
    report, folder = landed.judge("2026-01")
    assert report.quarantined == {"German": 120} and "is not" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"column": "nothing", "max_value": 1}, "nothing"),
        ({"column": "turns", "max_value": {"$PARAMETER": "unheard_of"}}, r"\$unheard_of"),
    ],
)
def test_a_faulty_suite_fails_the_stage_and_leaves_no_table(
    landed: Landed, chats: Months, suites: Path, kwargs: dict[str, Any], says: str
) -> None:
    edit(suites / "conversations.json", {"type": "expect_column_mean_to_be_between", "kwargs": kwargs})
    with pytest.raises(StageFailed, match=says):
        landed.validate(until(chats, "2026-01"))
    assert tables(landed.url) == []


def test_a_missing_or_empty_suite_fails_the_stage(landed: Landed, suites: Path) -> None:
    (suites / "messages.json").write_text('{"name": "messages", "expectations": []}')
    with pytest.raises(StageFailed, match="holds no expectations"):
        landed.judge("2026-01")
    (suites / "messages.json").unlink()
    with pytest.raises(StageFailed, match=r"messages\.json"):
        landed.judge("2026-01")


def test_tables_of_killed_validations_are_swept_and_those_under_way_are_not(landed: Landed, orders: Months) -> None:
    landed.land(until(orders, "2026-01"))
    with psycopg.connect(landed.url, autocommit=True) as other:
        for key in ("killed", "underway"):
            other.execute(f"CREATE UNLOGGED TABLE validation.messages_{key} ()")
        other.execute("SELECT pg_advisory_lock(hashtextextended('theta validation underway', 0))")
        assert landed.judge("2026-01")[0].passed
        assert tables(landed.url) == ["messages_underway"]


def tables(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'validation'")
        return [name for (name,) in rows]
