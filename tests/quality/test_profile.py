"""profile: the month in numbers, checked against the data itself."""

import json
import re
from statistics import median

import psycopg
import pytest

from tests.quality.snapshots import Bench, Conversation
from theta_ml.quality.profile import PROFILE, STAGE, metrics

Months = dict[str, list[Conversation]]


def test_numbers_are_those_of_the_data(bench: Bench, chats: Months) -> None:
    profile, folder = bench.run(STAGE, chats)
    rows = chats["2026-05"]
    assert profile.statistics["conversations"] == len(rows)
    assert profile.statistics["messages"] == sum(len(row["messages"]) for row in rows)
    assert profile.statistics["characters"] == sum(len(m["content"]) for row in rows for m in row["messages"])
    assert profile.statistics["words"] == sum(len(m["content"].split()) for row in rows for m in row["messages"])
    assert profile.statistics["turns_median"] == median(len(row["messages"]) for row in rows)
    ratings = [row["rating"] for row in rows if "rating" in row]
    assert profile.statistics["rating_mean"] == pytest.approx(sum(ratings) / len(ratings), rel=1e-6)
    assert profile.statistics["missing_topic"] == 1.0
    assert profile.languages == {"en": len(rows)} and profile.sources == {"topical_chat": len(rows)}
    document = json.loads((folder / PROFILE).read_text())
    assert document["statistics"] == profile.statistics
    assert sum(document["histograms"]["turns"]["counts"]) == len(rows)
    assert sum(document["histograms"]["hour"]["counts"]) == len(rows)
    assert metrics(profile)["profile.conversations"] == len(rows)


def test_rare_topics_are_summed_up(bench: Bench, orders: Months) -> None:
    rows = [{**row, "topics": [f"topic {place % 75:02d}"]} for place, row in enumerate(orders["2026-03"])]
    profile, _ = bench.run(STAGE, {"2026-03": rows})
    assert len(profile.topics) == 51
    assert profile.topics["topic 00"] == 2 and profile.topics["(other)"] == 50


def test_an_empty_month_has_a_profile(bench: Bench, chats: Months) -> None:
    profile, folder = bench.run(STAGE, chats | {"2026-06": []})
    assert profile.statistics["conversations"] == 0.0 and profile.topics == {}
    json.loads((folder / PROFILE).read_text(), parse_constant=lambda name: pytest.fail(name))


def test_the_page_holds_all_it_shows_and_no_text(bench: Bench, chats: Months) -> None:
    _, folder = bench.run(STAGE, chats)
    page = (folder / "report.html").read_text()
    assert page.count("<svg") >= 7 and "<rect" in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:)?//", page)
    said = {m["content"] for c in chats["2026-05"] for m in c["messages"] if len(m["content"]) > 25}
    assert not any(text in page for text in said)


def test_a_dashboard_reads_the_newest_profile(bench: Bench, chats: Months, database_url: str) -> None:
    profile, _ = bench.run(STAGE, chats, database_url=database_url)
    bench.run(STAGE, chats | {"2026-05": chats["2026-05"][:100]}, database_url=database_url)
    with psycopg.connect(database_url) as connection:
        counts = [row[0] for row in connection.execute("SELECT conversations FROM month_profiles ORDER BY 1")]
        assert counts == [100, len(chats["2026-05"])]
        newest = connection.execute(
            "SELECT s.value FROM newest_profiles JOIN month_statistics AS s USING (profile_key)"
            " WHERE month = '2026-05' AND name = 'conversations'"
        ).fetchall()
        assert newest == [(100.0,)]
        indicators = connection.execute("SELECT count(*) FROM month_statistics WHERE kind = 'indicator'").fetchone()
        assert indicators == (2 * len(profile.indicators),)
