"""Old versions leave, with their files: what is kept, what goes, and how.

Kept: the champion and the one before it (so that a rollback has somewhere to go), whatever an alias names or a run has
not decided on, and the newest. Of the rest MLflow loses version and files, the store the trainings (also of the
candidates that were not chosen) but for the small documents that tell what they were, and this machine what is left of
their checkpoints. What is to go is written down first, so that an attempt that was broken off is finished by the next.
"""

import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg

from theta_ml.registry.champion import KEY, registered_model, versions
from theta_ml.registry.files import place
from theta_ml.registry.ledger import champion_of, failure_of, lock_champion, open_ledger, predecessor
from theta_ml.settings import Settings
from theta_ml.stage import SELECT, StageFailed
from theta_ml.store import DOCUMENT, Store
from theta_ml.tracking import RUN_TAG, client, if_there, mlflow_answers

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

KEPT_FILES = frozenset([DOCUMENT, "history.jsonl"])
"""Of a training whose model goes."""
UNDER_WAY = timedelta(days=14)
"""So long a run may take from its choice to its version: what it chose from stays."""


@dataclass(frozen=True)
class Leaving:
    """A version that goes, or is half gone."""

    version: int
    training: str
    """Key in the store."""
    source: str
    """Of its files in MLflow, `runs:/RUN/PATH`."""


@dataclass(frozen=True)
class Retention:
    """What was kept and what went, or would."""

    kept: list[int]
    removed: list[int]
    freed_bytes: int
    """In the store; MLflow had as much again."""


def plan(settings: Settings, keep: int) -> Retention:
    """What `prune` would do. Raises StageRetry where Postgres or MLflow is away."""
    with open_ledger(settings) as ledger:
        there = versions(settings)
        leaving = [*_unfinished(ledger), *_chosen(settings, ledger, there, keep)]
        gone = _retired(ledger) | {each.training for each in leaving}
    trainings = _trainings(settings, leaving, _staying(settings, there, leaving, gone))
    return _report(there, leaving, sum(_bytes(settings, key) for key in trainings))


def prune(settings: Settings, keep: int) -> Retention:
    """Removes all but the newest `keep` and what else is kept.

    Raises as `plan` does; StageFailed at the end where something could not be removed, which the next attempt does.
    """
    from mlflow.exceptions import MlflowException

    with open_ledger(settings) as ledger:
        lock_champion(ledger)  # nobody is made champion meanwhile; who is retired is made so no more
        there = versions(settings)
        _write_down(ledger, _chosen(settings, ledger, there, keep))
        leaving, gone = _unfinished(ledger), _retired(ledger)
    staying = _staying(settings, there, leaving, gone)
    freed, left = 0, list[str]()
    for each in leaving:
        try:
            freed += _remove(settings, each, staying)
        except (OSError, MlflowException) as error:
            left.append(f"version {each.version} ({type(error).__name__}: {str(error).splitlines()[0][:200]})")
    if left:
        raise StageFailed(f"not all of {', '.join(left)} could be removed: mend that, then `theta registry prune`")
    return _report(there, leaving, freed)


def _remove(settings: Settings, leaving: Leaving, staying: set[str]) -> int:
    """Bytes of the store that went; the version is finished then."""
    _forget(settings, leaving)
    freed = sum(_strip(settings, key) for key in _trainings(settings, [leaving], staying))
    with open_ledger(settings) as ledger:
        ledger.execute(
            "UPDATE retired_versions SET finished_at = clock_timestamp() WHERE version = %s", [leaving.version]
        )
    return freed


def _chosen(settings: Settings, ledger: psycopg.Connection, there: "list[ModelVersion]", keep: int) -> list[Leaving]:
    kept = {int(version.version) for version in there[-keep:]} | {champion_of(ledger), predecessor(ledger)}
    model = registered_model(settings)
    kept |= {int(version) for version in (model.aliases if model else {}).values()}
    known = {row[0] for row in ledger.execute("SELECT version FROM retired_versions")}
    return [
        Leaving(int(version.version), version.tags[KEY], str(version.source))
        for version in there
        if int(version.version) not in kept | known and KEY in version.tags and _is_decided(settings, ledger, version)
    ]


def _is_decided(settings: Settings, ledger: psycopg.Connection, version: "ModelVersion") -> bool:
    """Whether its run came to an end: one that waits for a person may still promote it."""
    row = ledger.execute("SELECT 1 FROM ledger WHERE candidate_version = %s LIMIT 1", [int(version.version)]).fetchone()
    if row:
        return True
    run = if_there(settings, lambda: client(settings).get_run(str(version.run_id)))
    if run is None:
        return True  # nothing can be decided for a run of which MLflow has no trace
    name = run.data.tags.get(RUN_TAG)
    return name is not None and failure_of(ledger, name) is not None


def _write_down(ledger: psycopg.Connection, leaving: Iterable[Leaving]) -> None:
    for each in leaving:
        ledger.execute(
            "INSERT INTO retired_versions (version, training_key, source) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            [each.version, each.training, each.source],
        )


def _unfinished(ledger: psycopg.Connection) -> list[Leaving]:
    rows = ledger.execute(
        "SELECT version, training_key, source FROM retired_versions WHERE finished_at IS NULL ORDER BY version"
    )
    return [Leaving(*row) for row in rows]


def _retired(ledger: psycopg.Connection) -> set[str]:
    """Keys of the trainings of all versions that left, or leave."""
    return {row[0] for row in ledger.execute("SELECT training_key FROM retired_versions")}


@dataclass(frozen=True)
class _Choice:
    """What a stage `select` chose from: keys of trainings."""

    uri: str
    chosen: str
    candidates: set[str]


def _choices(settings: Settings) -> Iterator[_Choice]:
    store = Store(settings.artifacts, settings.home / "cache")
    for uri in store.places(SELECT):
        document = store.document(uri)
        if document:
            value = document["value"]
            yield _Choice(uri, value["train"].rpartition("/")[2], {each["key"] for each in value["candidates"]})


def _staying(settings: Settings, there: "list[ModelVersion]", leaving: list[Leaving], gone: set[str]) -> set[str]:
    """Keys of trainings that a version needs which stays, or a run that has registered none yet.

    Several versions may be of one training, and a candidate may have stood for choice more than once.
    """
    numbers = {each.version for each in leaving}
    needed = {version.tags[KEY] for version in there if int(version.version) not in numbers and KEY in version.tags}
    staying = set(needed)
    for choice in _choices(settings):
        if choice.chosen in needed or (choice.chosen not in gone and _is_recent(settings, choice.uri)):
            staying |= choice.candidates
    return staying


def _is_recent(settings: Settings, uri: str) -> bool:
    """Whether the run that made it may still be under way."""
    store = Store(settings.artifacts, settings.home / "cache")
    found = store.find(SELECT, uri.rpartition("/")[2])
    return found is not None and time.time() - store.made(found)[1] < UNDER_WAY.total_seconds()


def _trainings(settings: Settings, leaving: list[Leaving], staying: set[str]) -> Iterator[str]:
    """Those of the versions, and of the candidates that they were chosen from, but for those that stay."""
    chosen = {each.training for each in leaving}
    keys = chosen.union(*(choice.candidates for choice in _choices(settings) if choice.chosen in chosen))
    yield from sorted(keys - staying)


def _forget(settings: Settings, leaving: Leaving) -> None:
    """MLflow loses the version, then its files, which it would keep; what it has lost before is gone."""
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    mlflow = client(settings)
    run, path = place(leaving.source)
    if_there(settings, lambda: mlflow.delete_model_version(settings.registered_model, str(leaving.version)))
    files = if_there(settings, lambda: mlflow.list_artifacts(run, path)) if path else None
    if files:
        with mlflow_answers(settings):
            root = mlflow.get_run(run).info.artifact_uri
            get_artifact_repository(root, tracking_uri=settings.require_mlflow()).delete_artifacts(path)


def _strip(settings: Settings, key: str) -> int:
    """Bytes that went."""
    store, freed = Store(settings.artifacts, settings.home / "cache"), _bytes(settings, key)
    with store.rewriting(store.uri("train", key)) as files:
        files.strip(KEPT_FILES)
    store.forget_copy(store.uri("train", key))
    shutil.rmtree(settings.home / "checkpoints" / key, ignore_errors=True)
    return freed


def _bytes(settings: Settings, key: str) -> int:
    store = Store(settings.artifacts, settings.home / "cache")
    return store.size(store.uri("train", key), KEPT_FILES)


def _report(there: "list[ModelVersion]", leaving: list[Leaving], freed: int) -> Retention:
    gone = {each.version for each in leaving}
    kept = [int(version.version) for version in there if int(version.version) not in gone]
    return Retention(kept, sorted(gone), freed)
