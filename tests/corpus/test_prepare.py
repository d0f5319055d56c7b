"""The stage `prepare`, on snapshots made for the test and a real Postgres."""

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pytest

from tests.corpus.snapshots import conversations, passed_checks, record, write_artifact, write_snapshot
from theta_ml.champion import Champion
from theta_ml.corpus.batch import CONVERSATIONS, MESSAGES, Batch
from theta_ml.corpus.catalog import write_entry
from theta_ml.corpus.feedback import TIERS, tiers
from theta_ml.corpus.prepare import STAGE, PackedCorpus, PrepareSpec, open_rows
from theta_ml.corpus.sources import Reading, read
from theta_ml.corpus.tokenizer import ChatTokenizer
from theta_ml.corpus.unit import STAGE as UNIT
from theta_ml.events import Events
from theta_ml.landing.parquet import split_of
from theta_ml.settings import Settings
from theta_ml.stage import Result, StageFailed, StageRetry, StageSkipped, parse_spec, run_stage
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


def spec(month: str, **values: Any) -> PrepareSpec:
    return PrepareSpec(month, **{"datasets": "none"} | values)


def noun(store: Store, result: Result) -> PackedCorpus:
    return parse_noun(store.open(result.uri).document["value"])


def parse_noun(value: dict[str, Any]) -> PackedCorpus:
    from pydantic import TypeAdapter

    return TypeAdapter(PackedCorpus).validate_python(value)


def report(store: Store, result: Result) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((store.open(result.uri).path / "report.json").read_text())
    return document


def taken(settings: Settings, key: str) -> dict[str, str]:
    """Conversation → split."""
    with psycopg.connect(settings.require_database()) as connection:
        query = "SELECT conversation_id, split FROM training_data WHERE corpus_key = %s"
        return dict(connection.execute(query, [key]).fetchall())


def files_of(home: Path) -> dict[str, bytes]:
    """Of all corpora and units; markers hold times."""
    root = home / "artifacts"
    found = (file for stage in ("prepare", UNIT) for file in (root / stage).rglob("*"))
    return {str(file.relative_to(root)): file.read_bytes() for file in found if file.is_file() and file.name != MARKER}


def test_what_is_packed_is_recorded_and_reproducible(settings: Settings, store: Store, tmp_path: Path) -> None:
    inputs = [write_snapshot(store, MONTHS), *passed_checks(store)]
    result = run(settings, PrepareSpec("2026-02"), inputs)
    corpus, artifact = noun(store, result), store.open(result.uri)
    rows = open_rows(artifact, "train", store)
    everything = rows.take(np.arange(rows.count))
    assert everything.tokens.shape == (corpus.sequences["train"], corpus.max_length)
    assert everything.learned.sum() == corpus.loss_tokens["train"] > 0
    assert corpus.tokenizer_key == ChatTokenizer.load(artifact.path / "tokenizer").key()
    assert Counter(taken(settings, result.key).values()) == corpus.documents
    again = Settings(home=tmp_path / "again", database_url=settings.database_url)
    other_store = Store(again.artifacts, again.home / "cache")
    inputs = [write_snapshot(other_store, MONTHS), *passed_checks(other_store)]
    assert run(again, PrepareSpec("2026-02"), inputs).key == result.key
    one, other = files_of(tmp_path), files_of(tmp_path / "again")
    assert one.keys() == other.keys() and len(one) > 50  # units of two months and of the catalog's datasets
    assert [name for name in one if one[name] != other[name]] == []


def test_rows_tell_their_pieces_apart(settings: Settings, store: Store) -> None:
    result = run(settings, spec("2026-02"), [write_snapshot(store, MONTHS), *passed_checks(store)])
    corpus, rows = noun(store, result), open_rows(store.open(result.uri), "train", store)
    some = rows.take(np.arange(rows.count))
    starts = some.positions == 0
    padding = some.tokens == corpus.pad
    begins = some.tokens == corpus.begin
    first_padding = padding & ~np.pad(padding, ((0, 0), (1, 0)))[:, :-1]
    assert (starts == (begins | first_padding)).all()
    assert (np.diff(some.positions, axis=1)[~starts[:, 1:]] == 1).all()
    assert not some.learned[padding | begins].any()


def model_of_champion(store: Store, corpus: str, uri: str, context: int = 256) -> None:
    """What `prepare` reads of a champion's model."""
    folder = store.open(uri).path / "model"
    ChatTokenizer.load(store.open(corpus).path / "tokenizer").save(folder, context)
    (folder / "config.json").write_text(json.dumps({"max_position_embeddings": context}))


def test_a_month_that_was_added_is_all_that_is_packed(settings: Settings, store: Store) -> None:
    checks = passed_checks(store)
    first = run(settings, spec("2026-01"), [write_snapshot(store, {"2026-01": MONTHS["2026-01"]}), *checks])
    uri = write_artifact(store, "train", {"preset": "tiny"})
    model_of_champion(store, first.uri, uri)
    packed = {folder.name: folder.stat().st_mtime_ns for folder in (settings.home / "artifacts" / UNIT).iterdir()}
    second = spec("2026-02", champion=Champion(1, "2026-01", "a1", uri))
    result = run(settings, second, [write_snapshot(store, MONTHS, "s2"), *checks])
    after = {folder.name: folder.stat().st_mtime_ns for folder in (settings.home / "artifacts" / UNIT).iterdir()}
    assert len(after) == len(packed) + 1 and after.items() >= packed.items()
    assert [unit.name for unit in noun(store, result).units] == ["2026-01", "2026-02"]


def test_weights_are_repetitions(settings: Settings, store: Store) -> None:
    inputs = [write_snapshot(store, MONTHS), *passed_checks(store)]
    flat = noun(store, run(settings, spec("2026-02", newest_weight=1), inputs))
    newest = noun(store, run(settings, spec("2026-02"), inputs))
    replayed = noun(store, run(settings, spec("2026-02", newest_weight=1, replay_weight=0.5), inputs))
    assert newest.tokens["validation"] == flat.tokens["validation"] and newest.documents == flat.documents
    assert 1.3 < newest.tokens["train"] / flat.tokens["train"] < 1.5
    assert 0.6 < replayed.tokens["train"] / flat.tokens["train"] < 0.8


def test_what_is_never_shown_is_not_learned_from_and_takes_no_copy_away(settings: Settings, store: Store) -> None:
    months = {month: list(rows) for month, rows in MONTHS.items()}
    texts = [(m["role"], m["content"]) for row in months["2026-01"] if row["split"] == "train" for m in row["messages"]]
    judged = [(m["role"], m["content"]) for row in months["2026-01"] if row["split"] == "test" for m in row["messages"]]
    months["2026-02"] += [record("again", "2026-02", texts[:4], "train"), record("no", "2026-02", judged[:4], "train")]
    inputs = [write_snapshot(store, months), *passed_checks(store)]
    result = run(settings, spec("2026-02", replay_weight=0), inputs)
    kept = set(taken(settings, result.key))
    assert "again" in kept and "no" not in kept
    assert not kept & {row["conversation_id"] for row in months["2026-01"]}
    january, _ = report(store, result)["units"]
    assert january["kept"] == {"train": 0, "validation": 0} and january["epoch_tokens"] == 0
    assert january["dropped"] == {"not shown": sum(row["split"] != "test" for row in months["2026-01"])}


def test_what_people_liked_counts_double_and_what_they_did_not_is_left_out(settings: Settings, store: Store) -> None:
    rows = conversations("2026-01", 150)
    for number, row in enumerate(rows):
        row["rating"] = [None, 4.5, 1.5][number % 3]
    inputs = [write_snapshot(store, {"2026-01": rows}), *passed_checks(store)]
    result = run(settings, spec("2026-01"), inputs)
    plain = run(settings, spec("2026-01", liked_weight=1, disliked_weight=1), inputs)
    (unit,) = report(store, result)["units"]
    disliked = [row["conversation_id"] for row in rows if row["rating"] == 1.5 and row["split"] != "test"]
    assert unit["dropped"] == {"disliked": len(disliked)}
    assert set(taken(settings, plain.key)) - set(taken(settings, result.key)) == set(disliked)
    assert 0.9 < noun(store, result).tokens["train"] / noun(store, plain).tokens["train"] < 1.1  # 1 + 2 + 0 of 3


def test_copies_and_test_conversations_stay_out(settings: Settings, store: Store) -> None:
    months = {month: list(rows) for month, rows in MONTHS.items()}
    texts = [(m["role"], m["content"]) for m in months["2026-01"][0]["messages"]]
    shouted = [(role, content.upper()) for role, content in texts]
    unlike = [(m["role"], m["content"]) for m in months["2026-01"][1]["messages"]]
    nearly = [(role, content.replace("Hello", "Hi there")) for role, content in unlike]
    months["2026-01"] += [record("a", "2026-01", texts, "train"), record("b", "2026-01", unlike, "train")]
    months["2026-02"] += [record("c", "2026-02", shouted, "test"), record("d", "2026-02", nearly, "validation")]
    for month in months.values():
        month[:] = [row for row in month if row["conversation_id"] not in ("2026-01-0-0", "2026-01-0-1")]
    result = run(settings, spec("2026-02"), [write_snapshot(store, months), *passed_checks(store)])
    kept = taken(settings, result.key)
    assert {"a", "b", "c", "d"} & set(kept) == {"d"}
    january, _ = report(store, result)["units"]
    assert january["dropped"] == {"copy of a test conversation": 1, "near copy": 1}


def test_a_copy_that_people_disliked_takes_no_better_one_with_it(settings: Settings, store: Store) -> None:
    rows = conversations("2026-01", 120)
    texts = [(m["role"], m["content"]) for m in rows[0]["messages"]]
    rows = [row for row in rows if row["conversation_id"] != rows[0]["conversation_id"]]
    rows += [record("a", "2026-01", texts, "train") | {"rating": 1.0}, record("b", "2026-01", texts, "train")]
    result = run(settings, spec("2026-01"), [write_snapshot(store, {"2026-01": rows}), *passed_checks(store)])
    kept = taken(settings, result.key)
    assert "b" in kept and "a" not in kept


def test_a_landed_conversation_with_a_datasets_id_is_taken_once(settings: Settings, store: Store) -> None:
    rows = conversations("2026-01", 120)
    rows[0]["conversation_id"], rows[0]["split"] = "coding/coding-001", split_of("coding/coding-001")
    assert rows[0]["split"] != "test"
    inputs = [write_snapshot(store, {"2026-01": rows}), *passed_checks(store)]
    result = run(settings, spec("2026-01", datasets="coding"), inputs)
    assert "coding/coding-001" in taken(settings, result.key)
    _, coding = report(store, result)["units"]
    assert coding["dropped"] == {"exact copy": 1}


def test_a_dataset_that_changes_while_it_is_read_is_read_again(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [json.dumps({"messages": row["messages"]}, default=str) + "\n" for row in conversations("2026-01", 80)]
    file = settings.home / "own.jsonl"
    file.write_text("".join(lines))
    write_entry(settings, "own", {"path": str(file), "source": "file", "licence": "MIT", "category": "c", "title": "t"})
    inputs = [write_snapshot(store, MONTHS), *passed_checks(store)]

    def reading(*arguments: Any) -> Iterator[Reading]:
        yield from read(*arguments)
        file.write_text("".join(lines[:40]))

    with monkeypatch.context() as patched:
        patched.setattr("theta_ml.corpus.mixture.read", reading)
        with pytest.raises(StageRetry, match="own changed while it was read"):
            run(settings, spec("2026-02", datasets="own"), inputs)
    result = run(settings, spec("2026-02", datasets="own"), inputs)
    assert report(store, result)["units"][-1]["read"] == 40


def test_one_users_flood_is_capped(settings: Settings, store: Store) -> None:
    rows = conversations("2026-01", 400)
    for number, row in enumerate(rows):
        row["user_id"] = "flood" if number % 2 else f"user-{number}"
    result = run(settings, spec("2026-01"), [write_snapshot(store, {"2026-01": rows}), *passed_checks(store)])
    kept = taken(settings, result.key)
    users = Counter(row["user_id"] for row in rows if kept.get(row["conversation_id"]) == "train")
    assert 0.04 < users["flood"] / users.total() <= 0.05
    assert report(store, result)["total"]["dropped"]["share of one user"] > 100


def test_a_champions_tokenizer_is_kept_unless_a_new_one_is_asked_for(settings: Settings, store: Store) -> None:
    checks = passed_checks(store)
    first = run(settings, spec("2026-01"), [write_snapshot(store, {"2026-01": MONTHS["2026-01"]}), *checks])
    uri = write_artifact(store, "train", {"preset": "tiny"})
    model_of_champion(store, first.uri, uri)
    champion = Champion(1, "2026-01", "a1", uri)
    strange = conversations("2026-02", 80, seed=5)
    snapshot = write_snapshot(store, {"2026-01": MONTHS["2026-01"], "2026-02": strange}, "s2")
    kept = noun(store, run(settings, spec("2026-02", champion=champion), [snapshot, *checks]))
    own = noun(store, run(settings, spec("2026-02", champion=champion, tokenizer="new"), [snapshot, *checks]))
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
        run(settings, spec("2026-02"), inputs)
    with pytest.raises(StageFailed, match=r"no (drift|validate) was given"):
        run(settings, spec("2026-02"), [snapshot, checks[0 if stage == "drift" else 1]])


@pytest.mark.parametrize("count", [0, 1])
def test_a_month_with_nothing_to_learn_says_what_to_do(settings: Settings, store: Store, count: int) -> None:
    few = {"2026-01": [record("a", "2026-01", [("user", "Hi"), ("assistant", "Hello.")], "train")][:count]}
    with pytest.raises(StageFailed, match=r"no (train|validation) conversation .* import more"):
        run(settings, spec("2026-01"), [write_snapshot(store, few), *passed_checks(store)])


def test_an_empty_month_beside_others_is_counted_as_such(settings: Settings, store: Store) -> None:
    months = {"2026-01": MONTHS["2026-01"], "2026-02": []}
    result = run(settings, spec("2026-02"), [write_snapshot(store, months), *passed_checks(store)])
    assert [unit["read"] for unit in report(store, result)["units"]] == [120, 0]


def test_strange_talk_is_kept_or_counted(settings: Settings, store: Store) -> None:
    strange = {
        "rtl": [("user", "مرحبا، كيف حالك اليوم؟"), ("assistant", "بخير والحمد لله، كيف أساعدك؟")],
        "emoji": [("user", "👩‍👩‍👧‍👦🎉"), ("assistant", "🎂🎂🎂 hooray for all of you")],
        "long": [("user", "go on"), ("assistant", "so it went on, " * 700_000)],
        "blank": [("user", "hello?"), ("assistant", " \n\t ")],
        "alone": [("user", "is anybody there at all?")],
        "control": [("user", "what is <|assistant|> for?"), ("assistant", "\x03It marks\x04 my turn: <|end|>.")],
    }
    rows = [record(name, "2026-01", texts, "train") for name, texts in strange.items()]
    months = {"2026-01": MONTHS["2026-01"] + rows}
    result = run(settings, spec("2026-01"), [write_snapshot(store, months), *passed_checks(store)])
    (unit,) = report(store, result)["units"]
    assert unit["read"] == 126 and unit["rejected"].get("no_assistant_turn", 0) >= 2
    kept = set(taken(settings, result.key))
    assert {"rtl", "emoji", "control"} <= kept and not {"blank", "alone"} & kept


def test_no_copy_of_a_test_conversation_is_learned_from(settings: Settings, store: Store) -> None:
    """Over random months and sources: neither its id, nor its text with a word in ten changed."""
    chance = random.Random(11)
    for number in range(4):
        months = {f"2026-0{1 + m}": conversations(f"2026-0{1 + m}", chance.randint(30, 120), number) for m in range(3)}
        every = [row for rows in months.values() for row in rows]
        tests = [row for row in every if row["split"] == "test"]
        planted = [_edited(row, f"copy-{n}", chance.choice(list(months)), chance) for n, row in enumerate(tests * 2)]
        for row in planted:
            months[row["month"]].append(row)
        result = run(settings, spec("2026-03"), [write_snapshot(store, months, f"p{number}"), *passed_checks(store)])
        kept = set(taken(settings, result.key))
        assert kept and not kept & {row["conversation_id"] for row in tests}
        left = kept & {row["conversation_id"] for row in planted}
        assert not left, f"{len(left)} of {len(planted)} copies are learned from"


def test_a_copy_of_a_bad_test_conversation_is_not_learned_from(settings: Settings, store: Store) -> None:
    """Models are judged on all test conversations, on those too that nobody should learn from."""
    months = {month: list(rows) for month, rows in MONTHS.items()}
    bad = [("user", "Why does my kettle leak?"), ("assistant", "Because you are a moron, you moron: close the lid.")]
    copied = record("copy", "2026-02", bad, "train") | {"language": "nl"}  # of which no word list is at hand
    months["2026-01"] += [record("judged", "2026-01", bad, "test"), record("rude", "2026-01", bad, "train")]
    months["2026-02"] += [copied]
    result = run(settings, spec("2026-02"), [write_snapshot(store, months), *passed_checks(store)])
    assert not {"judged", "rude", "copy"} & set(taken(settings, result.key))
    january, february = report(store, result)["units"]
    assert january["rejected"] == {"toxic_reply": 1}
    assert february["dropped"] == {"copy of a test conversation": 1}


@pytest.mark.parametrize(
    "changed",
    ["theta_ml.corpus.spec.VERSIONS", "theta_ml.corpus.unit.VERSIONS"],
)
def test_what_other_rules_packed_is_not_found_again(
    settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    inputs = [write_snapshot(store, MONTHS), *passed_checks(store)]
    first = run(settings, spec("2026-02"), inputs)
    monkeypatch.setattr(changed, (0, 0, 0, 0))
    again = run(settings, spec("2026-02", seed=1 if "spec" in changed else 2), inputs)
    assert again.key != first.key
    keys = [{unit.key for unit in noun(store, each).units} for each in (first, again)]
    assert (keys[0] == keys[1]) == ("spec" in changed)


def test_a_dataset_named_twice_counts_once(settings: Settings, store: Store) -> None:
    inputs = [write_snapshot(store, MONTHS), *passed_checks(store)]
    result = run(settings, spec("2026-02", datasets="smartass, smartass"), inputs)
    assert [unit.name for unit in noun(store, result).units] == [*MONTHS, "smartass"]


def test_answers_are_rated_on_average_where_the_conversation_is_not() -> None:
    ratings = [[4.0, None, 4.5], [1.0, 3.0], [3.9, 4.1], [None], [5.0]]
    turns = [(number, "assistant", "Yes.", rating) for number, each in enumerate(ratings) for rating in each]
    turns += [(3, "user", "No!", 1.0)]
    described = [(str(number), "test", "en", None, 1.5 if number == 4 else None, "train") for number in range(6)]
    said = pl.DataFrame(turns, MESSAGES, orient="row").sort("conversation", maintain_order=True)
    batch = Batch(pl.DataFrame(described, CONVERSATIONS, orient="row"), said)
    assert [TIERS[tier] for tier in tiers(batch)] == ["liked", "disliked", "liked", "neutral", "disliked", "neutral"]


def _edited(row: dict[str, Any], conversation_id: str, month: str, chance: random.Random) -> dict[str, Any]:
    texts = [(m["role"], " ".join(_mistyped(m["content"].split(), chance))) for m in row["messages"]]
    source = chance.choice(["app", "web", "import"])
    return record(conversation_id, month, texts, chance.choice(["train", "validation"])) | {"source": source}


def _mistyped(words: list[str], chance: random.Random) -> list[str]:
    place = chance.randrange(len(words))  # of 7 to 15 words
    return [word if at != place else f"{word}x" for at, word in enumerate(words)]


def test_a_wrong_parameter_names_the_right_ones() -> None:
    with pytest.raises(StageFailed, match=r"^prepare: no preset 'huge': choose tiny or base"):
        parse_spec(STAGE, asdict(PrepareSpec("2026-01")) | {"preset": "huge"})
    with pytest.raises(StageFailed, match="choose 0"):
        parse_spec(STAGE, asdict(PrepareSpec("2026-01")) | {"replay_weight": -1})
