"""A snapshot that was extracted in shards is, byte for byte, the one that was taken by one process."""

import gzip
import json
from collections.abc import Iterator
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr

from tests.corpus.real import FILES, FOLDER
from tests.landing.feed import land, record, write
from tests.landing.test_snapshot import varied
from theta_ml.events import Events
from theta_ml.landing import arrow, parquet, shards
from theta_ml.landing.extract import STAGE as EXTRACT
from theta_ml.landing.extract import ExtractSpec
from theta_ml.landing.snapshot import STAGE as SNAPSHOT
from theta_ml.landing.snapshot import SnapshotSpec
from theta_ml.settings import Settings
from theta_ml.stage import Result, StageFailed, StageSkipped, parse_spec, run_stage
from theta_ml.store import MARKER, Store

MONTH = "2026-02"


class Home:
    """A landing zone, and snapshots of it in stores of their own."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url, self.folder = url, folder

    def settings(self, place: str) -> Settings:
        return Settings(home=self.folder, database_url=SecretStr(self.url), artifacts_url=str(self.folder / place))

    def extracts(self, place: str, count: int, month: str = MONTH, **values: Any) -> list[str]:
        specs = (ExtractSpec(month, shard=number, shards=count, **values) for number in range(count))
        return [run_stage(EXTRACT, spec, [], "r1", self.settings(place), Events("extract")).uri for spec in specs]

    def snapshot(self, place: str, parts: list[str] | None = None, month: str = MONTH) -> Result:
        return run_stage(SNAPSHOT, SnapshotSpec(month), parts or [], "r1", self.settings(place), Events("snapshot"))

    def left(self, place: str) -> list[str]:
        """Extracts that are in the store."""
        return Store(self.settings(place).artifacts, self.folder).places("extract")


def files(result: Result) -> dict[str, bytes]:
    """The document among them; the marker holds times."""
    folder = Path(result.uri.removeprefix("file://"))
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != MARKER}


@pytest.fixture
def home(database_url: str, tmp_path: Path) -> Home:
    """Two months of varied conversations, some unfit, in many small row groups."""
    earlier = (each | {"id": f"e{each['id']}", "created_at": "2026-01-09T00:00:00Z"} for each in islice(varied(70), 70))
    unfit = [
        record(number, messages=[{"role": "user", "content": "Ã© â€™ ï»¿ caf\ufffd"}]) for number in range(900, 920)
    ]
    lines = [json.dumps(each, ensure_ascii=False).encode() for each in [*varied(400), *earlier, *unfit]]
    land(database_url, write(tmp_path / "feed.jsonl", lines))
    return Home(database_url, tmp_path)


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parquet, shards):
        monkeypatch.setattr(module, "GROUP_ROWS", 40)
    monkeypatch.setattr(arrow, "GROUP_BYTES", 5000)


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_merge_to_the_bytes_of_the_whole(home: Home, count: int) -> None:
    alone = home.snapshot("alone")
    together = home.snapshot("together", home.extracts("together", count))
    assert together.key == alone.key
    assert files(together) == files(alone)
    value = json.loads(files(alone)["artifact.json"])["value"]
    assert value["quarantined"] and value["redacted"] and value["window"] == ["2026-01", MONTH]
    assert home.left("together") == []


def test_a_shard_may_be_empty(database_url: str, tmp_path: Path) -> None:
    home = Home(database_url, tmp_path)
    land(database_url, write(tmp_path / "feed.jsonl", [record(1), record(2)]))
    assert files(home.snapshot("together", home.extracts("together", 5))) == files(home.snapshot("alone"))
    nothing = home.snapshot("together", home.extracts("together", 2, "2020-01"), "2020-01")
    assert files(nothing) == files(home.snapshot("alone", month="2020-01"))


def test_a_shard_reads_its_own_conversations_alone(home: Home) -> None:
    store = Store(home.settings("parts").artifacts, home.folder)
    counts = [store.open(uri).document["value"]["conversations"] for uri in home.extracts("parts", 3)]
    assert sum(counts) == 490 and min(counts) > 100


def test_what_lacks_a_shard_or_was_made_for_another_snapshot_is_not_merged(home: Home) -> None:
    alone = home.snapshot("alone")
    parts = home.extracts("some", 3)
    assert files(home.snapshot("some", parts[:2])) == files(alone)
    others = home.extracts("other", 2, watermark="2100-01-01T00:00:00+00:00")
    assert files(home.snapshot("other", others)) == files(alone)
    assert home.left("other") == sorted(others)
    removed = home.extracts("gone", 2)
    with Store(home.settings("gone").artifacts, home.folder).rewriting(removed[0]) as artifact:
        artifact.remove()
    assert files(home.snapshot("gone", removed)) == files(alone)


def test_what_was_erased_between_extraction_and_merging_is_not_merged(home: Home) -> None:
    parts = home.extracts("store", 2)
    with psycopg.connect(home.url) as connection:
        connection.execute("INSERT INTO erasures (scope, subject, actor) VALUES ('conversation', 'c00900', 'test')")
        connection.execute("INSERT INTO erased_conversations (conversation_id, erasure_id) VALUES ('c00900', 1)")
    after = home.snapshot("store", parts)
    assert files(after) == files(home.snapshot("alone"))
    assert b"c00900" not in b"".join(files(after).values())


def test_a_shard_that_was_lost_is_all_that_is_made_again(home: Home) -> None:
    """As where its worker was killed: the others are found by their keys."""
    parts = home.extracts("store", 3)
    store = Store(home.settings("store").artifacts, home.folder)
    with store.rewriting(parts[1]) as lost:
        lost.remove()
    times = {uri: store.made(store.open(uri)) for uri in (parts[0], parts[2])}
    assert home.extracts("store", 3) == parts
    assert {uri: store.made(store.open(uri)) for uri in times} == times
    assert store.made(store.open(parts[1])) > max(times.values())


def test_nothing_is_extracted_for_a_snapshot_that_is_there(home: Home) -> None:
    home.snapshot("store")
    with pytest.raises(StageSkipped, match="the snapshot was made before"):
        home.extracts("store", 2)


def test_a_shard_that_there_is_not_is_refused() -> None:
    with pytest.raises(StageFailed, match="shard 2 of 2: shards are numbered from 0 to 1"):
        parse_spec(EXTRACT, {"month": MONTH, "shard": "2", "shards": "2"})


def real(file: str, count: int) -> Iterator[bytes]:
    path = FOLDER / f"{file}.jsonl.gz"
    if not path.exists():
        pytest.skip(f"needs the real conversations of {path}")
    with gzip.open(path) as lines:
        yield from (line.rstrip(b"\n") for line in islice(lines, count))


def test_real_conversations_merge_to_the_same_bytes(database_url: str, tmp_path: Path) -> None:
    home = Home(database_url, tmp_path)
    for file in FILES:
        land(database_url, write(tmp_path / f"{file}.jsonl", list(real(file, 700))), day=date(2026, 2, 5))
    with psycopg.connect(database_url) as connection:
        newest = connection.execute("SELECT to_char(max(occurred_at), 'YYYY-MM') FROM conversations").fetchone()
    assert newest
    month = newest[0]
    alone = home.snapshot("alone", month=month)
    together = home.snapshot("together", home.extracts("together", 3, month), month)
    assert files(together) == files(alone) and together.key == alone.key
