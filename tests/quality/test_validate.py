"""validate: good months pass, damaged ones are blocked, in words that say why."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.quality import damage
from tests.quality.snapshots import Bench, Conversation
from theta_ml.quality import suite
from theta_ml.quality.history import usual_volume
from theta_ml.quality.validate import STAGE, ValidationReport
from theta_ml.stage import StageFailed

Months = dict[str, list[Conversation]]


def until(months: Months, last: str, first: str = "") -> Months:
    return {month: rows for month, rows in months.items() if first <= month <= last}


@pytest.mark.parametrize("month", ["2006-05", "2006-06", "2006-07", "2006-08", "2007-01", "2007-02"])
def test_real_months_pass(bench: Bench, irc: Months, month: str) -> None:
    report, _ = bench.run(STAGE, until(irc, month))
    assert report.passed, report.sentence


@pytest.mark.parametrize("name", ["chats", "orders"])
def test_other_corpora_pass(bench: Bench, request: pytest.FixtureRequest, name: str) -> None:
    months: Months = request.getfixturevalue(name)
    for month in (min(months), max(months)):
        report, _ = bench.run(STAGE, until(months, month))
        assert report.passed, report.sentence


def test_a_change_of_source_is_not_damage(bench: Bench, orders: Months, chats: Months) -> None:
    report, _ = bench.run(STAGE, until(orders, "2026-02") | {"2026-03": chats["2026-03"]})
    assert report.passed, report.sentence


def edited(edit: damage.Edit, share: float, role: str = "") -> Callable[[list[Conversation]], list[Conversation]]:
    return lambda rows: damage.texts(rows, edit, share, role)


DAMAGES: dict[str, tuple[Callable[[list[Conversation]], list[Conversation]], str]] = {
    "mojibake": (edited(damage.mojibake, 0.08), "wrong encoding"),
    "latin-1": (edited(damage.read_as_latin1, 0.08), "wrong encoding"),
    "replacement characters": (edited(damage.replaced, 0.08), "lost characters"),
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
    "one user message": (edited(lambda text, dice: "ping", 0.6, "user"), "most frequent user message"),
    "cut replies": (edited(lambda text, dice: text[:24], 1.0, "assistant"), "cut replies"),
    "short replies": (edited(lambda text, dice: text[: dice.randrange(3, 16)], 1.0, "assistant"), "usual reply length"),
    "swapped roles": (damage.swapped, "users speak first"),
    "no replies": (damage.unanswered, "answered conversations"),
    "echo": (damage.echoed, "echoes"),
    "landed twice": (lambda rows: rows + damage.renamed(rows[: len(rows) // 4]), "duplicate conversations"),
    "landed under one id": (lambda rows: rows + rows[:3], "ids unique"),
    "half gone": (lambda rows: rows[: len(rows) // 2], "usual volume"),
    "too few": (lambda rows: rows[:12], "enough conversations"),
    "landed fifteen times": (lambda rows: rows * 15, "usual volume"),
    "rating of 100": (lambda rows: damage.rated(rows[:50], 100.0) + rows[50:], "conversation ratings in range"),
    "last second of the month before": (
        lambda rows: [{**rows[0], "created_at": "2026-04-30T23:59:59+00:00"}, *rows[1:]],
        "inside the month",
    ),
    "first instant of the next month": (
        lambda rows: [{**rows[0], "created_at": "2026-06-01T00:00:00+00:00"}, *rows[1:]],
        "inside the month",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_blocked(bench: Bench, chats: Months, name: str) -> None:
    damaged, check = DAMAGES[name]
    months = chats | {"2026-05": damaged(chats["2026-05"])}
    report, _ = bench.run(STAGE, months)
    assert not report.passed
    assert check in {c.name for c in report.checks if not c.passed}, report.sentence
    assert report.sentence.startswith("2026-05 is blocked: ")


@pytest.mark.parametrize(
    "name", ["mojibake", "error page", "empty replies", "no replies", "swapped roles", "cut replies"]
)
def test_damage_of_uneven_real_months_is_blocked(bench: Bench, irc: Months, name: str) -> None:
    damaged, check = DAMAGES[name]
    report, _ = bench.run(STAGE, irc | {"2007-02": damaged(irc["2007-02"])})
    assert check in {c.name for c in report.checks if not c.passed}, report.sentence


def test_a_replayed_month_is_blocked(bench: Bench, chats: Months) -> None:
    again = [{**c, "created_at": "2026-05-09T00:00:00+00:00"} for c in damage.renamed(chats["2026-04"])]
    report, _ = bench.run(STAGE, chats | {"2026-05": again})
    assert [c.name for c in report.checks if not c.passed] == ["replayed conversations"]
    assert report.sentence == (
        "2026-05 is blocked: 100 % of the conversations repeat one of the months before word for word (at most 20 %)"
    )


def test_the_sentence_names_number_and_threshold(bench: Bench, chats: Months) -> None:
    pages = damage.texts(chats["2026-05"], damage.error_page, 0.4, "assistant")
    report, _ = bench.run(STAGE, chats | {"2026-05": pages})
    assert re.search(r"blocked: (40|41|42|43) % of the replies are the same text \(at most 10 %\)", report.sentence)


def test_no_rows_is_no_pass(bench: Bench, chats: Months) -> None:
    report, folder = bench.run(STAGE, chats | {"2026-06": []})
    assert not report.passed
    assert "the month has 0 conversations (at least 20)" in report.sentence
    assert (folder / "report.html").exists()


def test_a_month_still_running_is_judged_by_what_has_passed_of_it(bench: Bench, chats: Months) -> None:
    first_half = chats | {"2026-05": chats["2026-05"][:55]}
    whole, _ = bench.run(STAGE, first_half)
    running, _ = bench.run(STAGE, first_half, watermark="2026-05-16T12:00:00+00:00")
    assert not whole.passed
    assert running.passed, running.sentence


def test_uneven_feeds_get_more_room() -> None:
    assert usual_volume([100, 100, 100, 100], 1.0, 0.6, 0.25, 10.0) == (60, 1000)
    low, high = usual_volume([40, 200, 90, 300, 50, 120], 1.0, 0.6, 0.25, 10.0)
    assert low is not None and high is not None and low < 30 and high >= 1000
    assert usual_volume([100, 100], 1.0, 0.6, 0.25, 10.0) == (25, 1000)
    assert usual_volume([], 1.0, 0.6, 0.25, 10.0) == (None, None)


def test_a_threshold_can_be_set(bench: Bench, orders: Months) -> None:
    strict, _ = bench.run(STAGE, until(orders, "2026-01"), max_same_reply="0.01")
    assert not strict.passed


def test_the_page_holds_everything_and_no_text(bench: Bench, chats: Months) -> None:
    report, folder = bench.run(STAGE, chats | {"2026-05": damage.swapped(chats["2026-05"])})
    page = (folder / "report.html").read_text()
    assert not re.search(r"<script|<link|<img|https?://|url\(", page)
    assert all(check.name in page for check in report.checks)
    said = [m["content"] for c in chats["2026-05"] for m in c["messages"] if len(m["content"]) > 15]
    ids = [c["id"] for c in chats["2026-05"]]
    assert not any(text in page or text in json.dumps(report.sentence) for text in said + ids)


def test_the_same_data_gives_the_same_report(bench: Bench, irc: Months) -> None:
    first, second = (bench.run(STAGE, until(irc, "2006-06"))[0] for _ in range(2))
    assert first == second


@pytest.fixture
def suites(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of expectations/ that a test may edit."""
    for file in suite.FOLDER.glob("*.json"):
        (tmp_path / file.name).write_text(file.read_text())
    monkeypatch.setattr(suite, "FOLDER", tmp_path)
    return tmp_path


def test_a_suite_is_edited_without_touching_code(bench: Bench, chats: Months, suites: Path) -> None:
    key = suite.suites_key(["conversations"])
    edit(
        suites / "conversations.json",
        {
            "type": "expect_column_values_to_be_in_set",
            "kwargs": {"column": "language", "value_set": ["de"], "mostly": 0.9},
            "meta": {"name": "German only", "says": "{observed} of the conversations are not in German ({expected})"},
        },
    )
    assert suite.suites_key(["conversations"]) != key
    report: ValidationReport = bench.run(STAGE, until(chats, "2026-01"))[0]
    assert report.sentence == "2026-01 is blocked: 100 % of the conversations are not in German (at most 10 %)"


@pytest.mark.parametrize(
    ("kwargs", "says"),
    [
        ({"column": "nothing", "max_value": 1}, "nothing"),
        ({"column": "turns", "max_value": {"$PARAMETER": "unheard_of"}}, r"\$unheard_of"),
    ],
)
def test_a_faulty_suite_fails_the_stage(
    bench: Bench, chats: Months, suites: Path, kwargs: dict[str, Any], says: str
) -> None:
    edit(suites / "conversations.json", {"type": "expect_column_mean_to_be_between", "kwargs": kwargs})
    with pytest.raises(StageFailed, match=says):
        bench.run(STAGE, until(chats, "2026-01"))


def test_a_missing_or_empty_suite_fails_the_stage(bench: Bench, chats: Months, suites: Path) -> None:
    (suites / "messages.json").write_text('{"name": "messages", "expectations": []}')
    with pytest.raises(StageFailed, match="holds no expectations"):
        bench.run(STAGE, until(chats, "2026-01"))
    (suites / "messages.json").unlink()
    with pytest.raises(StageFailed, match=r"messages\.json"):
        bench.run(STAGE, until(chats, "2026-01"))


def edit(path: Path, expectation: dict[str, Any]) -> None:
    document = json.loads(path.read_text())
    document["expectations"].append(expectation)
    path.write_text(json.dumps(document))
