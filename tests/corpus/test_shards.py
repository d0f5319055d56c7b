"""A corpus whose shards were encoded on several machines is, byte for byte, the one that was made by one."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.corpus.real import FILES
from tests.corpus.real import conversations as real_batches
from tests.corpus.snapshots import conversations, passed_checks, record, write_artifact, write_snapshot
from tests.corpus.test_prepare import files_of, noun
from theta_ml.corpus.catalog import write_entry
from theta_ml.corpus.prepare import STAGE as PREPARE
from theta_ml.corpus.spec import PrepareSpec
from theta_ml.corpus.spool_stage import STAGE as SPOOL
from theta_ml.corpus.spool_stage import SpoolSpec
from theta_ml.corpus.spooled import share
from theta_ml.corpus.tokenizer_stage import STAGE as TOKENIZER
from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import Result, Stage, StageSkipped, run_stage
from theta_ml.store import Store

Months = dict[str, list[dict[str, Any]]]


class Place:
    """A home of its own with the same months, datasets and checks."""

    def __init__(self, home: Path, database_url: str, months: Months, group: int = 16) -> None:
        self.home = home
        self.settings = Settings(home=home, database_url=database_url)  # type: ignore[arg-type]
        self.store = Store(self.settings.artifacts, home / "cache")
        home.mkdir()
        self.inputs = [write_snapshot(self.store, months, group=group), *passed_checks(self.store)]

    def run(self, stage: Stage[Any], spec: Any, more: list[str] | None = None) -> Result:
        with Events(stage.name) as events:
            return run_stage(stage, spec, [*self.inputs, *(more or [])], "test", self.settings, events)

    def spools(self, values: dict[str, Any], count: int, tokenizer: str) -> list[str]:
        specs = (SpoolSpec(**values, shard=number, shards=count) for number in range(count))
        return [self.run(SPOOL, spec, [tokenizer]).uri for spec in specs]

    def sharded(self, values: dict[str, Any], count: int) -> Result:
        tokenizer = self.run(TOKENIZER, PrepareSpec(**values)).uri
        return self.run(PREPARE, PrepareSpec(**values), [tokenizer, *self.spools(values, count, tokenizer)])

    def write_dataset(self) -> None:
        """Conversations, copies, copies of ids, and lines that are none."""
        rows = conversations("2026-01", 60, seed=3)
        lines = [json.dumps({"id": row["conversation_id"], "messages": row["messages"]}, default=str) for row in rows]
        lines += [*lines[:5], "{}", "no JSON", '{"messages": []}', lines[7].replace("Hello", "Hi there")]
        file = self.home.parent / "own.jsonl"
        file.write_text("\n".join(lines) + "\n")
        entry = {"path": str(file), "source": "file", "licence": "MIT", "category": "c", "title": "t"}
        write_entry(self.settings, "own", entry)


def months() -> Months:
    """Two months; copies and near copies in both and across them, mended and rejected talk, rows that are set aside."""
    chance = random.Random(4)
    january, february = conversations("2026-01", 230), conversations("2026-02", 150)
    every = [*january, *february]
    for number, row in enumerate(chance.sample(every, 60)):
        texts = [
            (said["role"], said["content"].replace("Hello", "Hi" if number % 2 else "Hello"))
            for said in row["messages"]
        ]
        copy = record(f"{chance.randint(0, 9)}-copy-{number}", chance.choice(["2026-01", "2026-02"]), texts)
        (january if copy["month"] == "2026-01" else february).append(copy)
    mended = [("user", f"<b>Hello</b>,   {{}}  \n\n\n\n is caf\u00c3\u00a9 {number} open?") for number in range(40)]
    for number, (role, text) in enumerate(mended):
        said = [(role, text.format(number)), ("assistant", "Yes, &amp; it stays so." if number % 3 else "")]
        february.append(record(f"mended-{number}", "2026-02", said))
    for row in chance.sample(january, 20):
        row["faults"] = ["mojibake"]
    for row in chance.sample(february, 30):
        row["rating"] = chance.choice([1.0, 5.0])
    return {"2026-01": january, "2026-02": february}


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_make_the_bytes_of_the_whole(tmp_path: Path, database_url: str, count: int) -> None:
    items = tmp_path / "items"
    items.mkdir()
    some = months()["2026-01"][3]["messages"]
    (items / "known.txt").write_text("\n".join(message["content"] for message in some) + "\n")
    values: dict[str, Any] = {"month": "2026-02", "datasets": "own,coding,smartass", "benchmarks": str(items)}
    alone, together = (Place(tmp_path / name, database_url, months()) for name in ("alone", "together"))
    for place in (alone, together):
        place.write_dataset()
    one, other = alone.run(PREPARE, PrepareSpec(**values)), together.sharded(values, count)
    assert one.key == other.key
    expected, found = files_of(alone.home), files_of(together.home)
    assert expected.keys() == found.keys()
    assert [name for name in expected if expected[name] != found[name]] == []
    units = json.loads((alone.store.open(one.uri).path / "report.json").read_text())["units"]
    january, february, own, *_ = units
    assert january["dropped"] and february["rejected"] and february["changed"] and own["rejected"]
    assert "benchmark" in january["dropped"] and "near copy" in february["dropped"]
    assert together.store.places("spool") == []


def test_what_shards_left_undone_is_done(tmp_path: Path, database_url: str) -> None:
    values: dict[str, Any] = {"month": "2026-02", "datasets": "none"}
    alone, together = (Place(tmp_path / name, database_url, months()) for name in ("alone", "together"))
    alone.run(PREPARE, PrepareSpec(**values))
    tokenizer = together.run(TOKENIZER, PrepareSpec(**values)).uri
    spools = together.spools(values, 3, tokenizer)
    with together.store.rewriting(spools[1]) as lost:
        lost.remove()
    twice = together.spools(values, 2, tokenizer)[:1]  # parts that the others have as well
    together.run(PREPARE, PrepareSpec(**values), [*spools, *twice])
    assert files_of(together.home) == files_of(alone.home)


def test_a_spool_of_another_corpus_is_not_taken(tmp_path: Path, database_url: str) -> None:
    values: dict[str, Any] = {"month": "2026-02", "datasets": "none"}
    place = Place(tmp_path / "place", database_url, months())
    tokenizer = place.run(TOKENIZER, PrepareSpec(**values)).uri
    others = place.spools(values | {"seed": 2}, 2, tokenizer)
    place.run(PREPARE, PrepareSpec(**values), others)
    assert place.store.places("spool") == sorted(others)


def test_every_part_is_one_shards_own(tmp_path: Path, database_url: str) -> None:
    from theta_ml.corpus.mixture import sources
    from theta_ml.stage import Inputs

    place = Place(tmp_path / "place", database_url, months())
    inputs = Inputs.open(place.store, place.inputs)
    for source in sources(PrepareSpec("2026-02", datasets="none"), inputs, place.settings):
        shares = [share(source, number, 4) for number in range(4)]
        assert sorted(part for each in shares for part in each) == list(range(source.parts()))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_nothing_is_encoded_of_unfit_data_or_for_a_corpus_that_is_there(tmp_path: Path, database_url: str) -> None:
    values: dict[str, Any] = {"month": "2026-02", "datasets": "none"}
    place = Place(tmp_path / "place", database_url, months())
    tokenizer = place.run(TOKENIZER, PrepareSpec(**values)).uri
    place.run(PREPARE, PrepareSpec(**values))
    with pytest.raises(StageSkipped, match="the corpus was made before"):
        place.spools(values, 2, tokenizer)
    place.inputs[1] = write_artifact(place.store, "validate", {"passed": False, "sentence": "12 rows"}, "bad")
    with pytest.raises(StageSkipped, match="12 rows"):
        place.spools(values, 2, tokenizer)


def test_units_that_were_packed_before_are_not_encoded_again(tmp_path: Path, database_url: str) -> None:
    values: dict[str, Any] = {"month": "2026-02", "datasets": "none"}
    place = Place(tmp_path / "place", database_url, months())
    corpus = place.run(PREPARE, PrepareSpec(**values))
    tokenizer = place.run(TOKENIZER, PrepareSpec(**values)).uri
    with place.store.rewriting(place.store.uri("pack", noun(place.store, corpus).units[0].key)) as january:
        january.remove()
    spools = place.spools(values | {"seed": 2}, 2, tokenizer)
    assert {name for uri in spools for name in place.store.open(uri).document["value"]["units"]} == {"2026-01"}


def test_real_conversations_make_the_same_bytes(tmp_path: Path, database_url: str) -> None:
    rows = [row for file in FILES for row in _rows(file)]
    both = {"2026-01": rows[::2], "2026-02": [row | {"month": "2026-02"} for row in rows[1::2]]}
    alone, together = (Place(tmp_path / name, database_url, both, group=64) for name in ("alone", "together"))
    values: dict[str, Any] = {"month": "2026-02", "datasets": "none"}
    assert alone.run(PREPARE, PrepareSpec(**values)).key == together.sharded(values, 3).key
    assert files_of(together.home) == files_of(alone.home)


def _rows(file: str, count: int = 250) -> list[dict[str, Any]]:
    batch = next(real_batches(file, count))
    said: dict[int, list[tuple[str, str]]] = {}
    for number, role, content, _ in batch.messages.iter_rows():
        said.setdefault(number, []).append((role, content))
    ids = batch.conversations["conversation_id"]
    return [record(ids[number], "2026-01", texts) for number, texts in said.items()]
