"""`theta erase` and `theta lineage`, on what the real stages made, a real Postgres and a real MLflow."""

import hashlib
import json
import threading
import uuid
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psycopg
import pyarrow.parquet as pq
import pytest

from tests.lineage.house import SECRETS, USER, House, id_in, line, noted, plain
from theta_ml.corpus.catalog import load_catalog
from theta_ml.corpus.prepare import open_rows
from theta_ml.corpus.sources import read as read_dataset
from theta_ml.corpus.unit import REASONS
from theta_ml.events import Events
from theta_ml.landing.database import connect
from theta_ml.lineage import landed
from theta_ml.lineage.audit import Subject, written
from theta_ml.lineage.erase import erase
from theta_ml.lineage.trace import trace
from theta_ml.registry.retention import prune
from theta_ml.settings import Settings
from theta_ml.stage import Result
from theta_ml.store import ERASED, ErasedMeanwhile, Rewriting, Store
from theta_ml.tracking import client

NOTED = id_in("train")


@pytest.fixture
def house(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> House:
    """Its artifacts lie in its home; in a bucket for a test that is parametrized so."""
    bucket = f"{request.getfixturevalue('bucket')}/artifacts" if getattr(request, "param", "") == "bucket" else None
    return House(Settings(home=tmp_path / "home", database_url=database_url, artifacts_url=bucket))  # type: ignore[arg-type]


@pytest.fixture
def registered(house: House, mlflow_uri: str) -> House:
    name = f"theta-{uuid.uuid4().hex[:8]}"
    changes = {"mlflow_tracking_uri": mlflow_uri, "experiment": name, "registered_model": name}
    return House(house.settings.model_copy(update=changes))


def months(house: House, *more: dict[str, Any]) -> tuple[Result, Result]:
    """Corpora of January, and of January and February; `more` landed in January."""
    house.settings.home.mkdir(exist_ok=True)
    house.land([*plain("2026-01", 90), *more])
    first = house.prepare(house.snapshot("2026-01", "r1").uri, "2026-01")
    house.land(plain("2026-02", 60))
    champion = replace(house.train(first, "2026-01"), version=1)
    return first, house.prepare(house.snapshot("2026-02", "r2").uri, "2026-02", champion)


def traced(house: House, conversation_id: str) -> dict[str, Any]:
    with connect(house.settings) as connection:
        return asdict(trace(house.settings, connection, conversation_id))


def test_a_conversation_of_two_versions_is_gone_and_both_are_named(registered: House) -> None:
    house = registered
    first, second = months(house, noted(NOTED), line("broken", "2026-01", [("nobody", SECRETS[0])], user_id=USER))
    models = [house.train(first, "2026-01")]
    models.append(house.train(second, "2026-02", replace(models[0], version=1)))
    corpora = [first, second]
    versions = [house.register(models[n], corpora[n], f"r{n + 1}") for n in range(2)]
    assert NOTED in house.taken(first.key) & house.taken(second.key)
    assert len(house.found_in(*SECRETS)) > 6  # snapshots, tokens, samples and reports, of both months' runs
    reign(house, versions)
    before = traced(house, NOTED)
    assert [[until is None for _, until in model["champion"]] for model in before["models"][:2]] == [[False], [True]]
    assert before["landed"]["month"] == "2026-01" and len(before["snapshots"]) == 2
    assert [model["version"] for model in before["models"]][:2] == versions and published(house)

    report = house.erase("conversation", NOTED, "asked for")
    assert house.found_in(*SECRETS, NOTED) == []
    assert set(house.found_in_database(*SECRETS, NOTED)) == {"erasures", "rejected_rows", "training_data"}
    named = report["report"]["models"]
    assert [model["version"] for model in named][:2] == versions
    assert all(model["learned"] for model in named[:2]) and "challenger" in named[1]["aliases"]
    assert report["report"]["mlflow_reports"] >= 1
    assert published(house) == []
    after = traced(house, NOTED)
    assert after["landed"] is None and after["snapshots"] == [] and after["erasure"]["reason"] == "asked for"
    assert {row["key"] for row in after["corpora"]} >= {first.key, second.key}
    assert after["models"] == before["models"]


def test_what_retention_took_is_named_as_before(registered: House) -> None:
    """Its weights are gone; what it learned, and what that number was, is not."""
    house = registered
    first, second = months(house, noted(NOTED))
    models = [house.train(first, "2026-01"), house.train(second, "2026-02")]
    models.append(house.train(second, "2026-02", replace(models[0], version=1)))
    versions = [house.register(model, first if n == 0 else second, f"r{n + 1}") for n, model in enumerate(models)]
    reign(house, versions)
    before = traced(house, NOTED)
    assert [model["version"] for model in before["models"]][:3] == versions == [1, 2, 3]
    assert prune(house.settings, 1).removed == [1]
    assert house.store.document(models[0].uri) and not (Path(models[0].uri.removeprefix("file://")) / "model").exists()
    after = traced(house, NOTED)
    assert after["models"] == before["models"]
    report = house.erase("conversation", NOTED, "asked for")["report"]
    assert [model["version"] for model in report["models"]][:3] == versions
    assert [model["learned"] for model in report["models"]][:3] == [True] * 3
    assert any("the champion learned it" in note for note in report["notes"])
    assert house.found_in(*SECRETS, NOTED) == []


def reign(house: House, versions: list[int]) -> None:
    """The ledger says that each became champion, one after the other."""
    insert = (
        "INSERT INTO ledger (run_id, month, decision, sentence, candidate_version, champion_after, actor, numbers)"
        " VALUES (%s, '2026-01', 'promoted', 'why', %s, %s, 'test', '{}')"
    )
    with psycopg.connect(house.url, autocommit=True) as connection:
        for version in versions:
            connection.execute(insert, [f"r{version}", version, version])


def published(house: House) -> list[str]:
    """Pages in MLflow that hold the secrets."""
    mlflow, found = client(house.settings), []
    experiment = mlflow.get_experiment_by_name(house.settings.experiment)
    assert experiment is not None
    for run in mlflow.search_runs([experiment.experiment_id]):
        page = Path(mlflow.download_artifacts(run.info.run_id, "prepare/report.html")).read_text()
        found += [run.info.run_id for word in SECRETS if word in page]
    return found


@pytest.mark.parametrize("house", ["folder", "bucket"], indirect=True)
def test_the_next_run_does_not_hold_it_and_nothing_cached_brings_it_back(house: House) -> None:
    first, second = months(house, noted(NOTED))
    held = [uri for uri in house.found_in(*SECRETS) if "pack" in uri or "snapshot" in uri]
    assert len(held) >= 4
    house.erase("conversation", NOTED)
    assert house.found_in(*SECRETS, NOTED) == []
    house.land([noted(NOTED)])
    again = house.snapshot("2026-01", "r1")  # an old run's id: its watermark is written down
    corpus = house.prepare(again.uri, "2026-01")
    assert not again.cached and corpus.key != first.key
    assert NOTED not in house.taken(corpus.key) and len(house.taken(corpus.key)) == len(house.taken(first.key)) - 1
    assert house.found_in(*SECRETS) == []
    old = house.store.open(second.uri)
    rows = open_rows(old, "train", house.store)
    everything = rows.take(np.arange(rows.count))
    assert not everything.learned[everything.tokens == old.document["value"]["pad"]].any()


def test_a_user_leaves_no_name_and_no_pseudonym(house: House) -> None:
    spoken = line("spoken", "2026-01", [("user", "Who said that first?"), ("assistant", "Somebody else, I believe.")])
    spoken["messages"][0]["author"] = USER
    broken = {"id": "b1", "user_id": USER, "messages": [{"role": "ghost", "content": SECRETS[0]}]}
    other = {"id": "b2", "user_id": f"{USER}0", "messages": [{"role": "ghost", "content": "kept as it was"}]}
    months(house, noted(NOTED), spoken, broken, other)
    pseudonym = traced_user(house)
    assert house.found_in(pseudonym)
    report = house.erase("user", USER)
    assert report["subject"] == pseudonym and report["report"]["conversations"] == 2
    assert house.found_in(USER, pseudonym, *SECRETS, "Who said that first") == []
    with psycopg.connect(house.url) as connection:
        texts = str(connection.execute("SELECT * FROM erasures").fetchall())
        kept = dict(connection.execute("SELECT convert_from(raw, 'UTF8'), reason FROM rejected_rows").fetchall())
    assert USER not in texts and len(kept) == 2 and any("kept as it was" in raw for raw in kept)
    assert house.erase("user", USER)["already"]


def traced_user(house: House) -> str:
    with connect(house.settings) as connection:
        return written(connection, Subject("user", USER))


@pytest.mark.parametrize("split", ["validation", "test"])
def test_books_balance_whatever_its_split(house: House, split: str) -> None:
    name = id_in(split)
    first, _ = months(house, noted(name))
    report = house.erase("conversation", name)
    assert house.found_in(*SECRETS, name) == []
    assert all(not model["learned"] for model in report["report"]["models"])
    for uri in house.store.places("pack"):
        value = house.store.open(uri).document["value"]
        parts = [value["held_out"], *(n for part in ("rejected", "dropped", "kept") for n in value[part].values())]
        assert sum(parts) == value["read"]
    assert house.prepare(house.snapshot("2026-02", "r3").uri, "2026-02").key != first.key


def test_a_datasets_conversation_stays_out_of_the_next_corpus(house: House) -> None:
    house.settings.home.mkdir()
    house.land(plain("2026-01", 90))
    snapshot = house.snapshot("2026-01", "r1").uri
    first = house.prepare(snapshot, "2026-01", datasets="coding")
    name = min(each for each in house.taken(first.key) if each.startswith("coding/"))
    report = house.erase("conversation", name)
    assert any("dataset coding" in note for note in report["report"]["notes"])
    assert house.found_in(name) == []
    again = house.prepare(house.snapshot("2026-01", "r1").uri, "2026-01", datasets="coding")
    assert house.taken(first.key) - house.taken(again.key) == {name}


def test_copies_under_other_ids_are_named(house: House) -> None:
    months(
        house,
        noted(NOTED),
        noted("twin"),
        noted("other", source="elsewhere") | {"messages": plain("2026-03", 1)[0]["messages"]},
    )
    report = house.erase("conversation", NOTED)
    assert report["report"]["copies"] == ["twin"] and "twin" in report["report"]["notes"][0]
    assert house.found_in(NOTED) == [] and house.found_in("twin")


def test_what_is_left_of_the_artifacts_is_sound(house: House) -> None:
    """Manifests fit their files; of the conversation a unit keeps the number, and that it was erased."""
    months(house, noted(NOTED))
    (unit,) = (uri for uri in house.store.places("pack") if holds(house, uri))
    number = read(house, unit, "conversations.parquet").to_dicts().index(holds(house, unit)[0])
    pieces = len(np.load(house.store.open(unit).path / "pieces.npy"))
    house.erase("conversation", NOTED)
    folder = house.store.open(unit).path
    left = np.load(folder / "pieces.npy")
    assert len(left) == pieces - 1 and number not in left["conversation"]
    assert (
        not np.load(folder / "signatures.npy")[number].any() and not np.load(folder / "fingerprints.npy")[number].any()
    )
    assert REASONS[dict(np.load(folder / "dropped.npy").tolist())[number]] == "erased"
    row = read(house, unit, "conversations.parquet").to_dicts()[number]
    assert (row["conversation_id"], row["user_id"], row["tokens"], row["loss_tokens"]) == ("", None, 0, 0)
    for uri in house.store.places("snapshot"):
        artifact = house.store.open(uri)
        value = artifact.document["value"]
        for name, text in value["files"].items():
            assert hashlib.sha256((artifact.path / name).read_bytes()).hexdigest() == text
        assert value["conversations"] == sum(len(read(house, uri, name)) for name in value["files"])
        january = read(house, uri, "conversations-2026-01.parquet")["messages"].explode().struct.unnest()
        counted = value["months"]["2026-01"]
        assert counted["text_bytes"] == january["content"].str.len_bytes().sum() and counted["messages"] == len(january)
        assert counted["train"] + counted["validation"] + counted["test"] == counted["conversations"] == 90
        assert value["messages"] == sum(month["messages"] for month in value["months"].values())


def test_a_snapshot_from_before_there_was_a_quarantine_is_scrubbed(house: House) -> None:
    house.settings.home.mkdir(exist_ok=True)
    house.land([*plain("2026-01", 5), noted(NOTED)])
    uri = house.snapshot("2026-01", "r1").uri
    with house.store.rewriting(uri) as files:
        name = "conversations-2026-01.parquet"
        pq.write_table(pq.read_table(files.path(name)).drop_columns("faults"), files.path(name))
    house.erase("conversation", NOTED)
    value = house.store.open(uri).document["value"]
    assert NOTED not in read(house, uri, name)["conversation_id"]
    assert (value["conversations"], value["months"]["2026-01"]["quarantined"]) == (5, 0)


def read(house: House, uri: str, name: str) -> pl.DataFrame:
    return pl.read_parquet(house.store.open(uri).path / name)


def holds(house: House, uri: str) -> list[dict[str, Any]]:
    return read(house, uri, "conversations.parquet").filter(pl.col("conversation_id") == NOTED).to_dicts()


def test_a_dataset_is_packed_anew_without_what_was_erased(house: House) -> None:
    """Its file is the team's and stays: a unit made later, with whatever tokenizer, does not hold it."""
    house.settings.home.mkdir()
    house.land(plain("2026-01", 90))
    first = house.prepare(house.snapshot("2026-01", "r1").uri, "2026-01", datasets="coding")
    names = sorted(each for each in house.taken(first.key) if each.startswith("coding/"))[:2]
    for name in names:
        house.erase("conversation", name)
    again = house.prepare(house.snapshot("2026-01", "r1").uri, "2026-01", datasets="coding")
    assert house.taken(again.key) == house.taken(first.key) - set(names)
    report = json.loads((house.store.open(again.uri).path / "report.json").read_text())
    assert report["units"][1]["rejected"]["erased"] == 2
    assert house.found_in(*said(house, names)) == []
    assert house.erase("conversation", names[0])["already"]


def said(house: House, names: list[str]) -> list[str]:
    """How each conversation begins."""
    (reading,) = read_dataset(load_catalog(house.settings).get("coding"), house.settings)
    numbers = reading.batch.conversations.with_row_index("number").filter(pl.col("conversation_id").is_in(names))
    first = reading.batch.messages.filter(pl.col("conversation").is_in(numbers["number"].to_list()))
    return [text[:60] for text in first.unique("conversation", keep="first")["content"]]


class Broken(Exception):
    """The process ends here."""


def test_broken_off_at_any_point_it_is_completed_by_the_same_command(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After each single change to a file, and between the steps: ends in the same state."""
    months(house, noted(NOTED))
    left = {"changes": 0}

    def breaking(original: Any) -> Any:
        def change(*arguments: Any, **named: Any) -> Any:
            if left["changes"] == 0:
                raise Broken
            left["changes"] -= 1
            return original(*arguments, **named)

        return change

    attempts, report = 0, None
    with monkeypatch.context() as patched:
        for owner, name in (
            (Rewriting, "edited"),
            (Rewriting, "replacing"),
            (Store, "begin_erasure"),
            (landed, "remove"),
        ):
            patched.setattr(owner, name, breaking(getattr(owner, name)))
        while report is None:
            left["changes"] = 1 + attempts % 2  # of which the attempt may make one or two more than before
            try:
                left["changes"] += attempts // 2
                report = house.erase("conversation", NOTED)
            except Broken:
                attempts += 1
    assert attempts > 5
    assert house.found_in(*SECRETS, NOTED) == []
    assert report["report"]["landing"]["messages"] == 2
    assert len(report["report"]["artifacts"]) == 5  # a snapshot and a corpus of each run, and January's unit
    for uri in house.store.places("pack"):
        value = house.store.open(uri).document["value"]
        assert sum(value["dropped"].values()) + value["held_out"] + sum(value["kept"].values()) <= value["read"]
    marks = [json.loads(path.read_text()) for path in house.settings.home.rglob(ERASED)]
    assert all(entry["finished_at"] and entry["conversations"] == 1 for mark in marks for entry in mark)
    again = house.erase("conversation", NOTED)
    assert again["already"] and again["report"] == report["report"]
    assert again["finished_at"] == report["finished_at"]


def test_what_is_being_made_meanwhile_is_not_published(house: House) -> None:
    """A snapshot that was read before an erasure, and a killed writer's leftovers."""
    months(house, noted(NOTED))
    store = house.store
    left = house.settings.home / "artifacts" / ".partial" / f"pack-{'0' * 32}-00000000"
    left.mkdir(parents=True)
    (left / "text").write_text(SECRETS[0])
    with pytest.raises(ErasedMeanwhile, match="make it again"), store.writing("snapshot", "k1") as path:
        (path / "text").write_text(SECRETS[0])
        report = house.erase("conversation", NOTED)
        assert path.exists()  # its writer lives
    assert report["report"]["leftovers"] == 1
    assert house.found_in(*SECRETS) == []


def test_two_at_once_end_alike(house: House) -> None:
    months(house, noted(NOTED))
    reports: list[dict[str, Any]] = []

    def one() -> None:
        with Events("erase") as events:
            reports.append(erase(house.settings, Subject("conversation", NOTED), events))

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report["already"] for report in reports) == [False, True, True]
    assert len({report["erasure_id"] for report in reports}) == 1


def test_what_only_preferences_are_learned_from_names_those_models_alone(house: House) -> None:
    house.settings.home.mkdir()
    house.land([*plain("2026-01", 90), noted(NOTED, rating=1)])
    corpus = house.prepare(house.snapshot("2026-01", "r1").uri, "2026-01")
    preferring, plainly = (house.train(corpus, "2026-01", method=method) for method in ("preference", "finetune"))
    heir = house.train(corpus, "2026-02", replace(preferring, version=1))
    assert NOTED not in house.taken(corpus.key)
    assert house.store.open(corpus.uri).document["value"]["documents"]["train"] == len(train_ids(house, corpus.key))
    half_done = house.settings.home / "checkpoints" / "half-done"
    half_done.mkdir(parents=True)

    named = {m["key"]: m for m in house.erase("conversation", NOTED)["report"]["models"]}
    assert set(named) == {preferring.key, heir.key} and plainly.key not in named
    assert named[preferring.key]["how"] == "could learn from 1 that people disliked"
    assert all(model["learned"] for model in named.values()) and not half_done.exists()
    assert "left out: disliked" in traced(house, NOTED)["corpora"][0]["what"]
    assert house.found_in(*SECRETS, NOTED) == []


def train_ids(house: House, corpus_key: str) -> list[str]:
    query = "SELECT conversation_id FROM training_data WHERE corpus_key = %s AND split = 'train'"
    with psycopg.connect(house.url) as connection:
        return [row[0] for row in connection.execute(query, [corpus_key])]


@pytest.mark.parametrize("taught", [True, False])
def test_a_first_training_that_is_half_done_begins_anew_where_its_corpus_taught_it(house: House, taught: bool) -> None:
    name = id_in("train" if taught else "test")
    house.settings.home.mkdir()
    house.land([*plain("2026-01", 90), noted(name)])
    house.prepare(house.snapshot("2026-01", "r1").uri, "2026-01")  # and no model was ever finished
    folders = [house.settings.home / "checkpoints" / "half-done", house.settings.home / "tuning" / "study-1" / "3"]
    for folder in folders:
        folder.mkdir(parents=True)

    report = house.erase("conversation", name)["report"]
    assert report["models"] == []
    assert [folder.exists() for folder in folders] == [not taught] * 2
    assert report["notes"] == (["2 trainings that were broken off begin anew when they run again"] if taught else [])
