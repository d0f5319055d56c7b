"""Parts of a stage's work that go before they are taken, or that nobody takes."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from theta_ml import parts
from theta_ml.events import Events
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, Stage, StageRetry, Work, run_stage
from theta_ml.store import DOCUMENT, MARKER, ArtifactMissing, Store


@dataclass(frozen=True)
class SumSpec:
    month: str


@dataclass(frozen=True)
class Sum:
    number: int


@pytest.fixture(params=["folder", "bucket"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    bucket = request.getfixturevalue("bucket") if request.param == "bucket" else None
    return Settings(home=tmp_path, artifacts_url=f"{bucket}/artifacts" if bucket else None)


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.artifacts, settings.home / "cache")


def part(store: Store, stage: str, key: str, **document: Any) -> str:
    with store.writing(stage, key) as path:
        (path / "number.txt").write_text("3")
        (path / DOCUMENT).write_text(json.dumps({"version": 1, "spec": {}, "inputs": {}} | document))
    return store.uri(stage, key)


def gone(store: Store, uri: str) -> None:
    """As another run removes it that has taken it."""
    parts.remove(store, [uri])


def run(settings: Settings, stage: Stage[SumSpec], *uris: str) -> int:
    with Events("sum") as events:
        made = run_stage(stage, SumSpec("2026-01"), list(uris), "r1", settings, events)
    number: int = Store(settings.artifacts, settings.home / "cache").open(made.uri).document["value"]["number"]
    return number


def summed(spec: SumSpec, inputs: Inputs, work: Work) -> Sum:
    """Three, by itself where nobody has done it before; another run takes the part as soon as this one has seen it."""
    for each in work.parts_of("spool", 1):
        gone(work.store, each.uri)
        return Sum(int((each.path / "number.txt").read_text()))
    return Sum(3)


SUM = Stage("sum", 1, SumSpec, summed, parts=("spool",))


def test_a_part_that_goes_while_it_is_read_is_done_without_by_the_next_attempt(
    settings: Settings, store: Store
) -> None:
    uri = part(store, "spool", "a")
    with pytest.raises(StageRetry, match="spool/a was removed while it was read"):
        run(settings, SUM, uri)
    assert run(settings, SUM, uri) == 3


def test_what_else_is_missing_is_no_reason_to_try_again(settings: Settings, store: Store) -> None:
    def lacking(spec: SumSpec, inputs: Inputs, work: Work) -> Sum:
        work.store.open(work.store.uri("pack", "gone"))
        raise AssertionError

    with pytest.raises(ArtifactMissing, match="pack/gone"):
        run(settings, replace(SUM, function=lacking), part(store, "spool", "a"))


def test_parts_that_nobody_took_leave_when_they_are_old(settings: Settings, store: Store) -> None:
    """Also what is left of one whose remover was killed; no other artifact, however old, and no young part."""
    old = [part(store, "extract", "a"), part(store, "spool", "b")]
    half = part(store, "extract", "c")
    store.root.remove(f"{store.base}/extract/c/{MARKER}")
    others = [part(store, "snapshot", "a"), part(store, "digest", "a")]
    then = time.time() + 2  # a bucket's clock tells seconds
    assert parts.remove_orphans(store, ["extract", "spool"], then - 3600) == 0
    assert parts.remove_orphans(store, ["extract", "spool"], then) == len([*old, half])
    assert store.places("extract") == store.places("spool") == []
    assert store.root.modified(f"{store.base}/extract/c") == {}
    assert [store.open(uri).uri for uri in others] == others
