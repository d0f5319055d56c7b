"""When to retrain, on a real Postgres, from conversations that landed there."""

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.landing.feed import land
from tests.registry.pipeline import Recorder
from theta_ml.champion import Champion
from theta_ml.landing import snapshot
from theta_ml.landing.simulation import month_lines
from theta_ml.month import Month
from theta_ml.quality.thresholds import DriftSpec
from theta_ml.settings import Settings
from theta_ml.stage import run_stage
from theta_ml.store import DOCUMENT, Store
from theta_ml.watch import live
from theta_ml.watch.live import LOOKS, spec_of_look
from theta_ml.watch.monitor import STAGE, MonitorReport, MonitorSpec

JANUARY, FEBRUARY = "2026-01", "2026-02"


class House:
    """A landing zone where the champion learned from January, and what lands of February."""

    def __init__(self, url: str, home: Path) -> None:
        self.url, self.home = url, home
        self.store = Store(str(home / "artifacts"), home / "cache")
        january = list(month_lines(Month.parse(JANUARY), 0, seed=7))
        self.land(january[::2])
        self.like_january = [line.replace(f"{JANUARY}-", f"{FEBRUARY}-") for line in january[1::2] if _short(line)]
        self.champion = self._train()

    def settings(self, **more: Any) -> Settings:
        given = {"home": self.home, "database_url": self.url, "schedule_from": JANUARY, "monitor_conversations": 1000}
        return Settings(**given | more)

    def land(self, lines: list[str]) -> None:
        file = self.home / "feed.jsonl"
        file.write_text("\n".join(lines) + "\n")
        land(self.url, file)

    def look(self, run: str = "day 1", champion: Champion | None = None, **more: Any) -> MonitorReport:
        spec = MonitorSpec(FEBRUARY, champion or self.champion)
        made = run_stage(STAGE, spec, [], run, self.settings(**more), Recorder())
        return MonitorReport(**self.store.open(made.uri).document["value"])

    def begun_days_ago(self, days: int) -> None:
        """The champion's own retraining."""
        self.execute("UPDATE snapshots SET taken_at = now() - %s * interval '1 day'", days)

    def freeze_february(self, run: str) -> None:
        run_stage(snapshot.STAGE, snapshot.SnapshotSpec(FEBRUARY), [], run, self.settings(), Recorder())

    def reject(self, run: str) -> None:
        self.execute(
            "INSERT INTO ledger (run_id, month, decision, sentence, candidate_version, actor, numbers)"
            " VALUES (%s, %s, 'rejected', 's', 2, 'theta_retrain', '{}')", run, FEBRUARY,
        )  # fmt: skip

    def execute(self, statement: Any, *values: Any) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement, values)

    def _train(self) -> Champion:
        spec = snapshot.SnapshotSpec(JANUARY)
        taken = run_stage(snapshot.STAGE, spec, [], "january", self.settings(), Recorder())
        corpus = self._made("prepare", {"snapshot": taken.key})
        return Champion(1, JANUARY, "k", self._made("train", {"prepare": corpus.rpartition("/")[2]}))

    def _made(self, stage: str, inputs: dict[str, str]) -> str:
        document = {"stage": stage, "key": f"{stage}-key", "inputs": inputs, "value": {}, "spec": {}}
        with self.store.writing(stage, f"{stage}-key") as folder:
            (folder / DOCUMENT).write_text(json.dumps(document))
        return self.store.uri(stage, f"{stage}-key")


def _short(line: str) -> bool:
    """Of a day that February has."""
    return json.loads(line)["created_at"][8:10] <= "28"


def other_topics() -> list[str]:
    """Of February; what January said of them is little."""
    return list(month_lines(Month.parse(JANUARY), 1, seed=7))


@pytest.fixture
def house(database_url: str, tmp_path: Path) -> House:
    built = House(database_url, tmp_path)
    built.begun_days_ago(30)
    return built


def test_conversations_alike_and_few_are_no_reason(house: House) -> None:
    house.land(house.like_january)
    report = house.look()
    assert report.outcome == "quiet"
    assert report.numbers["drift"] == "stable"
    assert report.numbers["new_conversations"] == len(house.like_january)


def test_enough_new_ones_are_asked_for_once_and_again_when_the_days_are_over(house: House) -> None:
    house.land(house.like_january)
    enough = {"monitor_conversations": len(house.like_january)}
    first = house.look("day 1", **enough)
    assert first.outcome == "retrain"
    assert house.look("day 1", **enough) == first  # the same run again says what it said
    assert house.look("day 2", **enough).outcome == "quiet"
    house.execute("UPDATE monitor SET looked_at = looked_at - interval '8 days'")
    assert house.look("day 9", **enough).outcome == "retrain"


def test_a_retraining_that_began_some_days_ago_is_waited_out(house: House) -> None:
    house.land(house.like_january)
    house.begun_days_ago(3)
    assert house.look("day 1", monitor_conversations=1).outcome == "quiet"
    assert house.look("day 2", monitor_conversations=1, monitor_days=2).outcome == "retrain"


def test_what_was_trained_on_is_not_new(house: House) -> None:
    house.land(house.like_january)
    house.freeze_february("february")
    house.begun_days_ago(30)
    assert house.look("before", monitor_days=0).numbers["new_conversations"] == len(house.like_january)
    house.reject("february")
    assert house.look("after", monitor_days=0).numbers["new_conversations"] == 0


def test_other_topics_are_a_reason_for_a_fifth_and_a_broken_feed_is_none_however_many(house: House) -> None:
    other = other_topics()[::3]
    house.land(other)
    few = house.look("day 1", monitor_conversations=5 * len(other) + 1)
    assert (few.outcome, few.numbers["drift"]) == ("quiet", "drifted")
    drifted = house.look("day 2", monitor_conversations=5 * len(other))
    assert (drifted.outcome, drifted.numbers["drift"]) == ("retrain", "drifted")
    house.execute("DELETE FROM conversations WHERE occurred_at >= '2026-02-01'")
    house.land(list(month_lines(Month.parse("2025-12"), 2, seed=7)))
    broken = house.look("day 3", monitor_days=0, monitor_conversations=1)
    assert (broken.outcome, broken.numbers["drift"]) == ("quiet", "broken")


def test_a_drift_that_was_trained_on_is_no_news_although_the_candidate_was_rejected(house: House) -> None:
    other = other_topics()
    house.land(other[::2])
    house.freeze_february("february")
    house.begun_days_ago(30)
    house.land(other[1::2])
    assert house.look("before").numbers["drift"] == "drifted"
    house.execute("DELETE FROM monitor")
    house.reject("february")
    after = house.look("after")
    assert after.numbers["new_conversations"] == len(other[1::2])
    assert (after.outcome, after.numbers["drift"]) == ("quiet", "stable")


def test_the_looks_at_a_month_share_what_one_is_allowed(house: House) -> None:
    assert LOOKS * spec_of_look(FEBRUARY, house.settings()).false_alarms == pytest.approx(
        DriftSpec(FEBRUARY).false_alarms
    )


def test_no_transaction_stands_open_while_a_month_is_exported_and_no_other_looks(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.land(house.like_january)
    seen: list[Any] = []

    def looked_at(*given: Any) -> Any:
        with psycopg.connect(house.url) as connection:
            idle = "SELECT count(*) FROM pg_stat_activity WHERE state = 'idle in transaction'"
            locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
            seen.append((connection.execute(idle).fetchone(), connection.execute(locks).fetchone()))
        return snapshot.snapshot(*given)

    monkeypatch.setattr(live, "snapshot", looked_at)
    house.look()
    assert seen == [((0,), (1,))]


@pytest.mark.parametrize("schedule_from", [None, "2026-03"])
def test_nothing_trains_unasked_before_its_time(house: House, schedule_from: str | None) -> None:
    house.land(house.like_january)
    assert house.look(monitor_conversations=1, schedule_from=schedule_from).outcome == "quiet"


def test_without_a_champion_there_is_nothing_to_renew(house: House) -> None:
    made = run_stage(STAGE, MonitorSpec(FEBRUARY), [], "day 1", house.settings(), Recorder())
    assert house.store.open(made.uri).document["value"]["outcome"] == "quiet"
