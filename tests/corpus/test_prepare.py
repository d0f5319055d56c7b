"""The stage `prepare`, on snapshots made for the test and a real Postgres."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import psycopg
import pytest

from tests.corpus.snapshots import conversations, passed_checks, record, write_artifact, write_snapshot
from theta_ml.champion import Champion
from theta_ml.corpus.documents import training_documents
from theta_ml.corpus.packing import Rows
from theta_ml.corpus.prepare import STAGE, PackedCorpus, PrepareSpec
from theta_ml.corpus.tokenizer import ChatTokenizer
from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import Result, StageFailed, StageSkipped, parse_spec, run_stage
from theta_ml.store import MARKER, Store

MONTHS = {"2026-01": conversations("2026-01", 120), "2026-02": conversations("2026-02", 80)}


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(home=tmp_path, database_url=database_url)  # type: ignore[arg-type]


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.artifacts, settings.home / "cache")


def run(settings: Settings, spec: PrepareSpec, inputs: list[str]) -> Result:
    with Events("prepare") as events:
        return run_stage(STAGE, spec, inputs, "test", settings, events)


def noun(store: Store, result: Result) -> PackedCorpus:
    return PackedCorpus(**store.open(result.uri).document["value"])


def test_what_is_packed_is_recorded_and_reproducible(settings: Settings, store: Store, tmp_path: Path) -> None:
    inputs = [write_snapshot(store, MONTHS), *passed_checks(store)]
    result = run(settings, PrepareSpec("2026-02"), inputs)
    corpus, path = noun(store, result), store.open(result.uri).path
    rows = Rows.open(path, "train")
    assert rows.tokens.shape == (corpus.sequences["train"], corpus.max_length) and rows.tokens.dtype == np.uint16
    assert rows.learned.sum() == corpus.loss_tokens["train"] > 0
    assert corpus.tokenizer_key == ChatTokenizer.load(path / "tokenizer").key()
    with psycopg.connect(settings.require_database()) as connection:
        taken = connection.execute("SELECT split, count(*), min(corpus_key) FROM training_data GROUP BY 1").fetchall()
    assert {split: (count, key) for split, count, key in taken} == {
        split: (count, result.key) for split, count in corpus.documents.items()
    }
    again = run(Settings(home=tmp_path / "again", database_url=settings.database_url), PrepareSpec("2026-02"), inputs)
    there = Store(str(tmp_path / "again" / "artifacts"), tmp_path).open(again.uri).path
    files = sorted(f.relative_to(path) for f in path.rglob("*") if f.is_file() and f.name != MARKER)
    assert [str(file) for file in files if (path / file).read_bytes() != (there / file).read_bytes()] == []


def test_the_newest_month_is_seen_more_often(settings: Settings, store: Store) -> None:
    inputs = [write_snapshot(store, MONTHS), *passed_checks(store)]
    once = noun(store, run(settings, PrepareSpec("2026-02", newest_weight=1), inputs))
    twice = noun(store, run(settings, PrepareSpec("2026-02"), inputs))
    assert twice.tokens["validation"] == once.tokens["validation"] and twice.documents == once.documents
    assert 1.3 < twice.tokens["train"] / once.tokens["train"] < 1.5


def test_copies_and_test_conversations_stay_out(store: Store) -> None:
    said = [("user", "Where is it?"), ("assistant", "In the  shed.")]
    shouted = [("user", "WHERE is it?"), ("assistant", "In the shed.")]
    other = [("user", "Where is it?"), ("assistant", "On the roof.")]
    january = [record("a", "2026-01", said, "train"), record("b", "2026-01", other, "train")]
    february = [record("c", "2026-02", shouted, "test"), record("d", "2026-02", other, "validation")]
    february.append(record("e", "2026-02", [("user", "Anyone?"), ("assistant", "  ")], "train"))
    path = store.open(write_snapshot(store, {"2026-01": january, "2026-02": february})).path
    taken = list(training_documents(path, ["2026-01", "2026-02"]))
    assert [document.conversation_id for document in taken] == ["b"]


def test_a_champions_tokenizer_is_kept(settings: Settings, store: Store) -> None:
    checks = passed_checks(store)
    first = run(settings, PrepareSpec("2026-01"), [write_snapshot(store, {"2026-01": MONTHS["2026-01"]}), *checks])
    uri = write_artifact(store, "train", {"preset": "tiny"})
    ChatTokenizer.load(store.open(first.uri).path / "tokenizer").save(store.open(uri).path / "model", 256)
    champion = Champion(1, "2026-01", "a1", uri)
    texts = [("user", "Qwxz qwxz?"), ("assistant", "Zyqx zyqx zyqx!")]
    strange = [record(f"x{n}", "2026-02", [*texts, ("user", str(n)), ("assistant", str(n))]) for n in range(80)]
    snapshot = write_snapshot(store, {"2026-01": MONTHS["2026-01"], "2026-02": strange}, "s2")
    kept = noun(store, run(settings, PrepareSpec("2026-02", champion=champion), [snapshot, *checks]))
    own = noun(store, run(settings, PrepareSpec("2026-02"), [snapshot, *checks]))
    assert kept.tokenizer_key == noun(store, first).tokenizer_key != own.tokenizer_key


@pytest.mark.parametrize(
    ("stage", "value"),
    [
        ("validate", {"passed": False, "sentence": "12 of 40 rows have no role"}),
        ("drift", {"outcome": "broken", "sentence": "12 of 40 rows have no role"}),
    ],
)
def test_unfit_data_is_not_trained_on(settings: Settings, store: Store, stage: str, value: dict[str, object]) -> None:
    snapshot, *checks = [write_snapshot(store, MONTHS), *passed_checks(store)]
    bad = write_artifact(store, stage, value, "bad")
    inputs = [snapshot, *(uri for uri in checks if f"/{stage}/" not in uri), bad]
    with pytest.raises(StageSkipped, match="12 of 40 rows have no role"):
        run(settings, PrepareSpec("2026-02"), inputs)
    with pytest.raises(StageFailed, match=r"no (drift|validate) was given"):
        run(settings, PrepareSpec("2026-02"), [snapshot, checks[0 if stage == "drift" else 1]])


def test_a_month_with_nothing_to_learn_says_what_to_do(settings: Settings, store: Store) -> None:
    few = {"2026-01": [record("a", "2026-01", [("user", "Hi"), ("assistant", "Hello.")], "train")]}
    with pytest.raises(StageFailed, match=r"no validation conversation .* import more"):
        run(settings, PrepareSpec("2026-01"), [write_snapshot(store, few), *passed_checks(store)])


def test_a_wrong_preset_names_the_right_ones() -> None:
    with pytest.raises(StageFailed, match="choose tiny or base"):
        parse_spec(STAGE, asdict(PrepareSpec("2026-01")) | {"preset": "huge"})
