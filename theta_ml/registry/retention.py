"""Old versions leave, with their files: what is kept, what goes, and how.

Kept: the champion and the one before it (so that a rollback has somewhere to go), whatever an alias names or a run has
not decided on, and the newest. Of the rest MLflow loses version and files, the store the trainings (also of the
candidates that were not chosen) but for the small documents that tell what they were, and this machine what is left of
their checkpoints. What is to go is written down first, so that an attempt that was broken off is finished by the next.
"""

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from theta_ml.registry.champion import KEY, registered_model, versions
from theta_ml.registry.ledger import champion_of, failure_of, lock_champion, open_ledger, predecessor
from theta_ml.settings import Settings
from theta_ml.stage import SELECT, StageFailed
from theta_ml.store import DOCUMENT, Store
from theta_ml.tracking import RUN_TAG, client, mlflow_answers

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

KEPT_FILES = frozenset([DOCUMENT, "history.jsonl"])
"""Of a training whose model goes."""


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
    trainings = _trainings(settings, leaving, _staying(there, leaving))
    return _report(there, leaving, sum(_bytes(settings, key) for key in trainings))


def prune(settings: Settings, keep: int) -> Retention:
    """Removes all but the newest `keep` and what else is kept. Raises as `plan` does."""
    with open_ledger(settings) as ledger:
        lock_champion(ledger)  # nobody is made champion meanwhile; who is retired is made so no more
        there = versions(settings)
        _write_down(ledger, _chosen(settings, ledger, there, keep))
        leaving = _unfinished(ledger)
    freed = 0
    for each in leaving:
        _forget(settings, each)
        freed += sum(_strip(settings, key) for key in _trainings(settings, [each], _staying(there, leaving)))
        with open_ledger(settings) as ledger:
            ledger.execute(
                "UPDATE retired_versions SET finished_at = clock_timestamp() WHERE version = %s", [each.version]
            )
    return _report(there, leaving, freed)


def _chosen(settings: Settings, ledger: psycopg.Connection, there: "list[ModelVersion]", keep: int) -> list[Leaving]:
    kept = {int(version.version) for version in there[-keep:]} | {champion_of(ledger), predecessor(ledger)}
    with mlflow_answers():
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
    with mlflow_answers():
        run = client(settings).get_run(str(version.run_id)).data.tags.get(RUN_TAG)
    return run is not None and failure_of(ledger, run) is not None


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


def _staying(there: "list[ModelVersion]", leaving: list[Leaving]) -> set[str]:
    """Keys of trainings that a version needs which stays: several may be of one training."""
    gone = {each.version for each in leaving}
    return {version.tags[KEY] for version in there if int(version.version) not in gone and KEY in version.tags}


def _trainings(settings: Settings, leaving: list[Leaving], staying: set[str]) -> Iterator[str]:
    """Those of the versions, and of the candidates that they were chosen from, where all of these go."""
    store = Store(settings.artifacts, settings.home / "cache")
    keys = {each.training for each in leaving} - staying
    for uri in store.places(SELECT):
        document = store.document(uri)
        candidates = {each["key"] for each in document["value"]["candidates"]} if document else set()
        keys |= candidates if keys & candidates and not candidates & staying else set()
    yield from sorted(keys)


def _forget(settings: Settings, leaving: Leaving) -> None:
    """MLflow loses the version, then its files, which it would keep."""
    from mlflow.exceptions import MlflowException

    with mlflow_answers():
        try:
            client(settings).delete_model_version(settings.registered_model, str(leaving.version))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
        _remove_files(settings, leaving)


def _remove_files(settings: Settings, leaving: Leaving) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    run, _, path = leaving.source.removeprefix("runs:/").partition("/")
    if not path:
        raise StageFailed(
            f"version {leaving.version} lies at {leaving.source}, where Theta put none: remove it by hand"
        )
    mlflow = client(settings)
    if mlflow.list_artifacts(run, path):
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
