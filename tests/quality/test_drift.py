"""drift: tells a world that changes from a feed that breaks, and from chance."""

import re
from itertools import pairwise

import numpy as np
import pytest

from tests.quality import damage
from tests.quality.snapshots import Bench, Conversation
from theta_ml.quality.comparing import DriftReport
from theta_ml.quality.distance import deal, jensen_shannon, one_hot, wasserstein
from theta_ml.quality.drift import STAGE

Months = dict[str, list[Conversation]]


def drifted(report: DriftReport) -> set[str]:
    return {column.column for column in report.columns if column.drifted}


def test_consecutive_real_months_are_never_broken(bench: Bench, irc: Months) -> None:
    for before, month in pairwise(["2006-05", "2006-06", "2006-07", "2006-08"]):
        report, _ = bench.run(STAGE, {before: irc[before], month: irc[month]})
        assert report.outcome in ("stable", "drifted"), report.sentence
        assert report.reference_month == before


def test_months_of_one_source_are_stable(bench: Bench, chats: Months, orders: Months) -> None:
    for months in (chats, orders):
        report, _ = bench.run(STAGE, months)
        assert report.outcome == "stable", report.sentence
        assert re.fullmatch(r"2026-0\d is like 2026-0\d( and 2026-0\d)?: none of \d+ columns drifted", report.sentence)


def test_another_source_is_drift_and_no_fault(bench: Bench, orders: Months, chats: Months, irc: Months) -> None:
    for rows in (chats["2026-02"], at(irc["2006-06"], "2026-02")):
        report, _ = bench.run(STAGE, {"2026-01": orders["2026-01"], "2026-02": rows})
        assert report.outcome == "drifted", report.sentence
        assert report.share is not None and report.share > 0.5
    back, _ = bench.run(STAGE, {"2026-01": chats["2026-01"], "2026-02": orders["2026-02"]})
    assert back.outcome == "drifted", back.sentence


@pytest.mark.parametrize(
    ("edit", "role", "fault"),
    [
        (damage.error_page, "assistant", "same template in replies went from"),
        (damage.mojibake, "", "damaged text went from"),
        (lambda text, dice: "-", "assistant", "blank replies went from"),
    ],
)
def test_damage_is_broken(bench: Bench, chats: Months, edit: damage.Edit, role: str, fault: str) -> None:
    rows = damage.texts(chats["2026-05"], edit, 0.5, role)
    report, _ = bench.run(STAGE, chats | {"2026-05": rows})
    assert report.outcome == "broken"
    assert report.sentence.startswith("2026-05 is another feed than 2026-04: ")
    assert fault in report.sentence


def test_an_empty_month_is_broken_and_a_small_one_says_nothing(bench: Bench, chats: Months) -> None:
    empty, folder = bench.run(STAGE, chats | {"2026-06": []})
    assert (empty.outcome, empty.reference_month, empty.share) == ("broken", None, None)
    assert "holds no conversation" in (folder / "report.html").read_text()
    for rows in range(1, 20, 6):
        small, _ = bench.run(STAGE, chats | {"2026-06": at(chats["2026-05"][:rows], "2026-06")})
        assert small.outcome == "no_reference"
        assert f"has {rows} conversations, too few to compare" in small.sentence


def test_the_reference_is_the_newest_month_with_enough(bench: Bench, chats: Months) -> None:
    report, _ = bench.run(STAGE, chats | {"2026-04": chats["2026-04"][:19]})
    assert report.reference_month == "2026-03"
    first, folder = bench.run(STAGE, {"2026-01": chats["2026-01"]})
    assert (first.outcome, first.reference_month) == ("no_reference", None)
    assert (folder / "report.html").exists()


def test_months_without_replies_topics_or_words_are_compared(bench: Bench, chats: Months) -> None:
    bare = damage.unanswered(damage.texts(chats["2026-05"], lambda text, dice: "1 2 3"))
    report, _ = bench.run(STAGE, chats | {"2026-05": bare})
    assert report.outcome == "broken"  # nobody answers any more
    still, _ = bench.run(STAGE, {"2026-04": at(bare, "2026-04"), "2026-05": bare})
    assert still.outcome in ("stable", "broken")


def test_the_same_data_gives_the_same_report(bench: Bench, irc: Months) -> None:
    months = {month: irc[month] for month in ("2006-05", "2006-06")}
    first, second = (bench.run(STAGE, months, sample=100)[0] for _ in range(2))
    assert first == second
    assert first.columns != bench.run(STAGE, months, sample=100, seed=1)[0].columns


def test_distances_of_the_textbook() -> None:
    dealt = deal(2, 2, 3, 0)
    assert dealt.shape == (4, 4) and (dealt.sum(axis=1) == 2).all()
    assert wasserstein(np.array([0.0, 2.0, 1.0, 3.0]), dealt)[0] == pytest.approx(1.0)
    apart = jensen_shannon(one_hot(np.array(["a", "a", "b", "b"], dtype=object)), dealt)
    assert apart[0] == pytest.approx(np.sqrt(np.log(2)))


def test_the_page_needs_nothing_from_elsewhere_and_holds_no_text(bench: Bench, chats: Months) -> None:
    report, folder = bench.run(STAGE, chats)
    page = (folder / "report.html").read_text()
    assert f"{report.sentence}.</p>" in page
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)\s*=\s*[\"']?(https?:)?//", page)
    said = {m["content"] for c in chats["2026-05"] for m in c["messages"] if len(m["content"]) > 25}
    assert not any(text in page for text in said)


def at(rows: list[Conversation], month: str) -> list[Conversation]:
    return [{**row, "created_at": f"{month}-{place % 28 + 1:02d}T12:00:00+00:00"} for place, row in enumerate(rows)]
