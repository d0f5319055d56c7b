"""MLflow against the ledger: aliases, versions, their files and tags; what the ledger can put right, is."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg

from theta_ml.registry import aliases
from theta_ml.registry.champion import DECISION, KEY, MONTH, SENTENCE, URI, as_champion, registered_model, versions
from theta_ml.registry.files import lost, lost_copy
from theta_ml.registry.ledger import champion_of, lock_champion, open_ledger, predecessor
from theta_ml.settings import Settings
from theta_ml.stage import StageFailed
from theta_ml.store import Store
from theta_ml.tracking import MONTH_TAG, client, if_there, mlflow_answers

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion


@dataclass(frozen=True)
class Fault:
    """Something that is not as the ledger has it."""

    kind: str
    """alias, version, files or tags."""
    subject: str
    """The alias, or the version."""
    what: str
    repaired: bool = False


def check(settings: Settings, repair: bool = False) -> list[Fault]:
    """All that is amiss; with `repair`, tags and aliases are set again. Raises StageRetry where a server is away."""
    with open_ledger(settings) as ledger:
        lock_champion(ledger)
        there = {int(version.version): version for version in versions(settings)}
        return [
            *_tags(settings, ledger, there, repair),  # without which no version is given an alias
            *_aliases(settings, ledger, repair),
            *_missing(settings, ledger, there),
            *_files(settings, ledger, there),
        ]


def reconcile(settings: Settings) -> list[Fault]:
    """Sets the aliases as the ledger has them; nothing else is looked at. Raises StageRetry, StageFailed."""
    with open_ledger(settings) as ledger:
        lock_champion(ledger)
        if champion_of(ledger) is None:
            return []
        return list(_aliases(settings, ledger, repair=True))


def _aliases(settings: Settings, ledger: psycopg.Connection, repair: bool) -> Iterator[Fault]:
    for alias in aliases.faults(settings, ledger):
        what, mended = alias.fault, False
        if repair:
            try:
                aliases.repair(settings, alias)
                mended = True
            except StageFailed as error:
                what = f"{what}; {error}"
        yield Fault("alias", alias.name, what, mended)


def _missing(settings: Settings, ledger: psycopg.Connection, there: Mapping[int, object]) -> Iterator[Fault]:
    """Versions that the ledger names, that retention did not take, and that MLflow does not have."""
    rows = ledger.execute(
        "SELECT candidate_version, min(month) FROM ledger WHERE candidate_version IS NOT NULL"
        " AND candidate_version NOT IN (SELECT version FROM retired_versions) GROUP BY 1 ORDER BY 1"
    )
    for version, month in rows:
        if version not in there:
            what = f"MLflow does not have it, and no retention took it: restore MLflow, or retrain {month}"
            yield Fault("version", str(version), what)
    if not there and registered_model(settings) is None and champion_of(ledger) is not None:
        yield Fault("version", settings.registered_model, "MLflow has no such registered model: restore MLflow")


def _files(settings: Settings, ledger: psycopg.Connection, there: "Mapping[int, ModelVersion]") -> Iterator[Fault]:
    gone = {row[0] for row in ledger.execute("SELECT version FROM retired_versions")}
    for number, version in there.items():
        if number in gone:
            continue  # under way: the next retention takes what is left of it
        try:
            faults = [lost(settings, as_champion(version)), lost_copy(settings, version)]
        except StageFailed:
            continue  # its tags are a fault of their own
        for what in filter(None, faults):
            yield Fault("files", str(number), f"{what}{_what_to_do(ledger, number)}")


def _what_to_do(ledger: psycopg.Connection, version: int) -> str:
    if version == champion_of(ledger):
        return "; it is the champion: restore it, or `theta rollback`"
    return "; it is what a rollback would lead to" if version == predecessor(ledger) else ""


def _tags(
    settings: Settings, ledger: psycopg.Connection, there: "dict[int, ModelVersion]", repair: bool
) -> Iterator[Fault]:
    """The tags that name a version's training, and what was decided on it; `there` is brought up to date."""
    for number, version in list(there.items()):
        wanted = _decided(ledger, number) | _training(settings, version)
        wrong = {name: text for name, text in wanted.items() if version.tags.get(name) != text}
        unknown = [name for name in (MONTH, KEY, URI) if name not in version.tags and name not in wanted]
        if not wrong and not unknown:
            continue
        with mlflow_answers(settings):
            for name, text in wrong.items() if repair else ():
                client(settings).set_model_version_tag(settings.registered_model, str(number), name, text)
            there[number] = client(settings).get_model_version(settings.registered_model, str(number))
        lacks = ", ".join([*wrong, *unknown])
        yield Fault("tags", str(number), f"missing or wrong: {lacks}", repair and not unknown)


def _decided(ledger: psycopg.Connection, version: int) -> dict[str, str]:
    """The row of the run that made it; a person's rows come later, and leave what the gate said."""
    row = ledger.execute(
        "SELECT decision, sentence FROM ledger WHERE candidate_version = %s AND decision NOT IN"
        " ('manual', 'rolled_back') ORDER BY entry_id LIMIT 1",
        [version],
    ).fetchone()
    return {DECISION: row[0], SENTENCE: row[1]} if row else {}


def _training(settings: Settings, version: "ModelVersion") -> dict[str, str]:
    """Where the version lacks them, from the parameters of the run that registered it."""
    if all(name in version.tags for name in (MONTH, KEY, URI)):
        return {}
    run = if_there(settings, lambda: client(settings).get_run(str(version.run_id)))
    if run is None:
        return {}
    month, key = run.data.tags.get(MONTH_TAG), run.data.params.get("train.key")
    if month is None or key is None:
        return {}
    store = Store(settings.artifacts, settings.home / "cache")
    return {MONTH: month, KEY: key, URI: store.uri("train", key)}
