"""drift: tells a world that changes from a feed that breaks, and from chance."""

import json
import random
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import psycopg
import pytest

from tests.quality import damage
from tests.quality.snapshots import Bench, Conversation, real
from theta_ml.bench.quality_gate_data import table
from theta_ml.bench.quality_gate_feeds import BROKEN, mixed, typographic
from theta_ml.quality.calibration import expected
from theta_ml.quality.comparing import DriftReport, Past, compare_batches, compare_months
from theta_ml.quality.digest import NAMES_FILE, SAMPLE_FILE, Digest, digest_of
from theta_ml.quality.distance import deal, jensen_shannon, one_hot, wasserstein
from theta_ml.quality.drift import PAGES, STAGE
from theta_ml.quality.faults import roles_alike
from theta_ml.quality.thresholds import DriftSpec

Months = dict[str, list[Conversation]]
SPEC = DriftSpec("2026-02", shuffles=300)


def digest(rows: list[Conversation], month: str = "2026-02") -> Digest:
    return digest_of(table(rows), month)


def compared(before: list[Conversation], after: list[Conversation]) -> DriftReport:
    return compare_batches(SPEC, digest(before, "2026-01"), digest(after))


def drifted(report: DriftReport) -> set[str]:
    return {column.column for column in report.columns if column.drifted}


def test_consecutive_real_months_are_never_broken(irc: Months) -> None:
    for before, after in pairwise(rows for rows in irc.values() if len(rows) >= 50):
        report = compared(before, after)
        assert report.outcome in ("stable", "drifted"), report.sentence


def test_random_halves_of_a_month_are_alike(chats: Months, irc: Months) -> None:
    dice, alarms = random.Random(1), 0
    pools = [[row for rows in months.values() for row in rows] for months in (chats, irc)]
    for rows in pools * 15:
        part = dice.sample(rows, 300)
        alarms += compared(part[:150], part[150:]).outcome != "stable"
    assert alarms <= 3  # 30 at 2 %: more than three come once in 300 times


def test_another_source_is_drift_and_no_fault(orders: Months, chats: Months, irc: Months) -> None:
    for before, after in ((orders, chats), (chats, orders), (orders, irc)):
        report = compared(next(iter(before.values())), list(after.values())[1])
        assert report.outcome == "drifted", report.sentence
        assert report.share is not None and report.share > 0.5


def test_a_fifth_of_the_topics_moved_is_found_and_told() -> None:
    topics: Months = {}
    for row in real("sgd"):
        topics.setdefault(row["topics"][0], []).append(row)
    for seed in range(3):
        report = compared(*mixed(topics, 600, 0.2, random.Random(seed)))
        assert report.outcome == "drifted" and "topic" in drifted(report)
        assert re.search(r"topic \(\w+ [\d.]+ % → [\d.]+ %\)", report.sentence)


@pytest.mark.parametrize("kind", list(BROKEN))
def test_a_broken_feed_is_told_from_drift(kind: str, chats: Months, irc: Months) -> None:
    for months in (chats, irc):
        rows = [row for month in months.values() for row in month][:500]
        rows = typographic(rows) if kind == "wrong encoding" else rows
        for way, broken in BROKEN[kind].items():
            report = compared(rows[:250], broken(rows[250:], random.Random(2)))
            assert report.outcome == "broken", f"{way}: {report.sentence}"
            assert report.sentence.startswith("2026-02 is another feed than 2026-01: ")


@pytest.mark.parametrize(
    ("edit", "role", "fault"),
    [
        (damage.error_page, "assistant", "same template in replies went from"),
        (damage.mojibake, "", "damaged text went from"),
        (lambda text, dice: "-", "assistant", "blank replies went from"),
        (lambda text, dice: f"{dice.getrandbits(60):015x}", "user", "same user message went from"),
    ],
)
def test_damage_is_named(chats: Months, edit: damage.Edit, role: str, fault: str) -> None:
    report = compared(chats["2026-04"], damage.texts(chats["2026-05"], edit, 0.5, role))
    assert report.outcome == "broken" and fault in report.sentence


def test_roles_are_known_by_their_words(orders: Months) -> None:
    before, after = (digest(orders[month]) for month in ("2026-01", "2026-02"))
    assert roles_alike(before, after) > 0.8
    assert roles_alike(before, digest(damage.swapped(orders["2026-02"]))) < -0.8


def test_an_assistant_that_greets_first_is_another_feed_until_a_person_accepts_it(orders: Months) -> None:
    hello = {"role": "assistant", "content": "Hello! What can I get you?"}
    greeting = [{**row, "messages": [hello, *row["messages"]]} for row in orders["2026-02"]]
    report = compared(orders["2026-01"], greeting)
    assert report.outcome == "broken" and "changed places" not in report.sentence
    digests = digest(orders["2026-01"], "2026-01"), digest(greeting)
    meant = compare_batches(replace(SPEC, accepted=True), *digests)
    assert (meant.outcome, meant.sentence) == ("drifted", f"{report.sentence}; accepted as the new feed")


def test_slow_drift_shows_against_three_months_before() -> None:
    rows = random.Random(2).sample(real("sgd"), 6000)
    talk = {kind: [row for row in rows if (row["topics"][0] == "Flights_1") == kind] for kind in (True, False)}
    months = []
    for share in (0.03, 0.08, 0.13, 0.18):
        flights = round(600 * share)
        months.append([talk[True].pop() for _ in range(flights)] + [talk[False].pop() for _ in range(600 - flights)])
    digests = [digest(month, f"2026-0{place + 1}") for place, month in enumerate(months)]
    assert compare_batches(SPEC, digests[2], digests[3]).outcome == "stable"
    report = compare_months(SPEC, Past(digests[2], digests[0], digests[:3]), digests[3])
    assert report.outcome == "drifted" and report.sentence.endswith(", though it is like 2026-03")


def test_the_same_data_gives_the_same_report(irc: Months) -> None:
    first, second = (compared(irc["2006-05"], irc["2006-06"]) for _ in range(2))
    assert first == second
    assert compared(irc["2006-05"], irc["2006-05"]).outcome == "stable"


def test_what_last_month_told_already_is_no_news(orders: Months, chats: Months) -> None:
    """Against the month three back all is new since last month; this month is like last month."""
    old, last, now = (digest(rows) for rows in (orders["2026-01"], chats["2026-01"], chats["2026-02"]))
    assert compare_batches(SPEC, old, now).outcome == "drifted"
    assert compare_months(SPEC, Past(last, old), now).outcome == "stable"


def test_months_that_always_change_a_little_widen_what_counts(chats: Months) -> None:
    def at(hour: int, month: str) -> Digest:
        shifted = [{**row, "rating": (row.get("rating") or 4) + hour / 4} for row in chats["2026-03"]]
        return digest(shifted, month)

    history = [at(hour, f"2025-1{hour}") for hour in (0, 1, 0, 1)]
    month = at(0, "2026-01")
    assert "rating" in drifted(compare_batches(SPEC, history[-1], month))
    assert "rating" not in drifted(compare_months(SPEC, Past(history[-1], None, history), month))
    assert expected([0.1, 0.1]) == 0.0 and 0.1 < expected([0.1, 0.1, 0.12, 0.9]) < 0.3


def test_an_empty_month_is_broken_and_a_small_one_says_nothing(bench: Bench, chats: Months) -> None:
    empty, folder = bench.run(STAGE, chats | {"2026-06": []})
    assert (empty.outcome, empty.reference_month, empty.share) == ("broken", None, None)
    assert "holds no conversation" in (folder / "report.html").read_text()
    for rows in range(1, 20, 6):
        small, _ = bench.run(STAGE, chats | {"2026-06": at(chats["2026-05"][:rows], "2026-06")})
        assert small.outcome == "no_reference"
        assert f"has {rows} conversations, too few to compare" in small.sentence
    first, folder = bench.run(STAGE, {"2026-01": chats["2026-01"]})
    assert (first.outcome, first.reference_month) == ("no_reference", None)
    assert (folder / "report.html").exists()


def test_months_without_replies_topics_or_words_are_compared(chats: Months) -> None:
    bare = damage.unanswered(damage.texts(chats["2026-05"], lambda text, dice: "1 2 3"))
    assert compared(chats["2026-04"], bare).outcome == "broken"  # nobody answers any more
    assert compared(bare, bare).outcome == "stable"


def test_the_stage_asks_evidently_about_both_references(bench: Bench, chats: Months, database_url: str) -> None:
    months = {month: rows for month, rows in chats.items() if month != "2026-04"}  # it was blocked, say
    report, folder = bench.run(STAGE, months, database_url=database_url)
    assert [each.reference_month for each in report.comparisons] == ["2026-03", "2026-02"]
    known = len(bench.store.places("digest"))
    bench.run(STAGE, {**months, "2026-05": chats["2026-05"][:97]})
    assert len(bench.store.places("digest")) == known + 1  # those of the months before are found
    with psycopg.connect(database_url) as connection:
        stored = connection.execute(
            "SELECT outcome, count(*) FROM newest_drifts JOIN month_drift_columns USING (drift_key) GROUP BY 1"
        ).fetchall()
    assert stored == [(report.outcome, len(report.columns))]
    pages = {name: (folder / name).read_text() for name in ("report.html", *PAGES)}
    said = {m["content"] for c in chats["2026-05"] for m in c["messages"] if len(m["content"]) > 25}
    for name, page in pages.items():
        assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)\s*=\s*[\"']?(https?:)?//", page), name
        assert not any(text in page for text in said), name
    assert f"{report.sentence}.</p>" in pages["report.html"] and PAGES[1] in pages["report.html"]


def test_evidently_scores_as_we_do(chats: Months, orders: Months) -> None:
    from theta_ml.quality.comparing import compared as compare_columns
    from theta_ml.quality.evidently_report import evidently_report

    (found,) = compare_columns(SPEC, Past(digest(orders["2026-01"])), digest(chats["2026-02"]))
    scores, _ = evidently_report(found.columns, found.thresholds)
    assert len(found.columns) >= 10
    for column in found.columns:
        assert scores[column.name] == pytest.approx(column.distance, abs=1e-6), column.name


def test_a_digest_keeps_no_word_of_a_few(bench: Bench, chats: Months) -> None:
    before = set(bench.store.places("digest"))
    bench.run(STAGE, {"2026-01": chats["2026-01"], "2026-02": chats["2026-02"][:110]})
    words = [set(re.findall(r"[^\W\d_]{3,20}", " ".join(m["content"] for m in c["messages"]).lower()))
             for c in chats["2026-02"][:110]]  # fmt: skip
    rare = {word for used in words for word in used if len(word) > 6 and sum(word in each for each in words) < 3}
    assert len(rare) > 300
    for uri in set(bench.store.places("digest")) - before:
        folder = bench.store.open(uri).path
        kept = (folder / "artifact.json").read_text() + (folder / NAMES_FILE).read_text()
        names = set(json.loads((folder / NAMES_FILE).read_text()).values())
        if bench.store.open(uri).document["value"]["month"] == "2026-02":
            assert not names & rare
        assert "conversation_id" not in kept
        assert b"conversation_id" not in (folder / SAMPLE_FILE).read_bytes()


def test_distances_of_the_textbook() -> None:
    dealt = deal(2, 2, 3, 0)
    assert dealt.shape == (4, 4) and (dealt.sum(axis=1) == 2).all()
    assert wasserstein(np.array([0.0, 2.0, 1.0, 3.0]), dealt)[0] == pytest.approx(1.0)
    apart = jensen_shannon(one_hot(np.array(["a", "a", "b", "b"], dtype=object)), dealt)
    assert apart[0] == pytest.approx(np.sqrt(np.log(2)))


def at(rows: list[Conversation], month: str) -> list[Conversation]:
    return [{**row, "created_at": f"{month}-{place % 28 + 1:02d}T12:00:00+00:00"} for place, row in enumerate(rows)]
