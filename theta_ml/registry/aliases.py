"""MLflow's aliases, kept as the ledger has it: `champion`, and `challenger` for the newest version that never was it.

They have no compare-and-set: whoever changes one holds the champion's lock.
"""

from dataclasses import dataclass

import psycopg

from theta_ml.registry.champion import CHALLENGER, CHAMPION, as_champion, model_version, registered_model, versions
from theta_ml.registry.ledger import CROWNING, champion_of
from theta_ml.settings import Settings
from theta_ml.tracking import client, mlflow_answers


@dataclass(frozen=True)
class Alias:
    """One that is not as it should be."""

    name: str
    version: int | None
    """What it names; None where it is not set."""
    wanted: int | None

    @property
    def fault(self) -> str:
        is_, should = (f"version {number}" if number else "nothing" for number in (self.version, self.wanted))
        return f"the alias {self.name} names {is_}, and should name {should}"


def crown(settings: Settings, version: int) -> None:
    """Raises StageFailed where MLflow has no such version of ours."""
    as_champion(model_version(settings, version))
    with mlflow_answers(settings):
        client(settings).set_registered_model_alias(settings.registered_model, CHAMPION, str(version))
        model = registered_model(settings)
        if model and model.aliases.get(CHALLENGER) == str(version):
            client(settings).delete_registered_model_alias(settings.registered_model, CHALLENGER)


def challenge(settings: Settings, version: int) -> None:
    """The alias `challenger`, unless a newer version is there."""
    if version == newest_version(settings):
        with mlflow_answers(settings):
            client(settings).set_registered_model_alias(settings.registered_model, CHALLENGER, str(version))


def faults(settings: Settings, ledger: psycopg.Connection) -> list[Alias]:
    """Raises StageRetry where MLflow is away."""
    with mlflow_answers(settings):
        model = registered_model(settings)
    standing = {name: int(version) for name, version in (model.aliases if model else {}).items()}
    wanted = {CHAMPION: champion_of(ledger), CHALLENGER: _challenger(settings, ledger)}
    found = [Alias(name, standing.get(name), version) for name, version in wanted.items()]
    return [alias for alias in found if alias.version != alias.wanted]


def repair(settings: Settings, alias: Alias) -> None:
    """Raises StageFailed where MLflow does not have the version."""
    if alias.wanted is not None:
        as_champion(model_version(settings, alias.wanted))
    mlflow, name = client(settings), settings.registered_model
    with mlflow_answers(settings):
        if alias.wanted is None:
            mlflow.delete_registered_model_alias(name, alias.name)
        else:
            mlflow.set_registered_model_alias(name, alias.name, str(alias.wanted))


def newest_version(settings: Settings) -> int | None:
    return max((int(version.version) for version in versions(settings)), default=None)


def _challenger(settings: Settings, ledger: psycopg.Connection) -> int | None:
    newest = newest_version(settings)
    crowned = ledger.execute(
        "SELECT 1 FROM ledger WHERE decision = ANY(%s) AND champion_after = %s LIMIT 1", [list(CROWNING), newest]
    ).fetchone()
    return None if crowned else newest
