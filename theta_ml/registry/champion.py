"""Who is champion: the ledger says it, and MLflow's alias shows it to whoever serves the model."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from theta_ml.champion import Champion
from theta_ml.registry.ledger import champion_of, decision_of, open_ledger, retired
from theta_ml.settings import Settings
from theta_ml.stage import Inputs, StageFailed
from theta_ml.store import Store, address
from theta_ml.tracking import client, if_there, mlflow_answers

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion, RegisteredModel

CHAMPION, CHALLENGER = "champion", "challenger"
MONTH, KEY, URI = "theta.month", "theta.key", "theta.uri"
"""Tags of every version that Theta registers."""
DECISION, SENTENCE = "theta.decision", "theta.sentence"
"""Tags of a version, and of the run that made it, once it is decided on."""


def current(settings: Settings) -> Champion | None:
    """The champion by the ledger, or None: an alias that was dropped or moved by hand dethrones nobody.

    Raises StageRetry where Postgres or MLflow is away, StageFailed where MLflow lacks the version.
    """
    with open_ledger(settings) as ledger:
        version = champion_of(ledger)
    return None if version is None else at_version(settings, version)


def in_service(settings: Settings) -> Champion | None:
    """The version that the alias `champion` names, or None: for who serves it and has no ledger.

    Raises StageRetry where MLflow is away.
    """
    model = registered_model(settings)
    version = model.aliases.get(CHAMPION) if model else None
    return as_champion(model_version(settings, int(version))) if version else None


def at_version(settings: Settings, version: int) -> Champion:
    """Also one that was retired since, so that an old run that is run again names what it named.

    Raises StageFailed where MLflow does not have it, or it was not registered by Theta.
    """
    with open_ledger(settings) as ledger:
        key = retired(ledger, version)
    return as_champion(model_version(settings, version)) if key is None else _as_it_was(settings, version, key)


def _as_it_was(settings: Settings, version: int, key: str) -> Champion:
    store = Store(settings.artifacts, settings.home / "cache")
    uri = store.uri("train", key)
    document = store.document(uri)
    if document is None:
        raise StageFailed(f"version {version} was retired, and {uri} does not tell any more what it was")
    return Champion(version, document["value"]["month"], key, address("train", key))


def model_version(settings: Settings, version: int) -> "ModelVersion":
    """Raises StageFailed where MLflow does not have it."""
    found = if_there(settings, lambda: client(settings).get_model_version(settings.registered_model, str(version)))
    if found is None:
        raise StageFailed(
            f"MLflow has no version {version} of {settings.registered_model}: `theta registry check` says what else "
            "is amiss"
        )
    return found


def registered_model(settings: Settings) -> "RegisteredModel | None":
    """With its aliases: `search_model_versions` returns none. Raises StageRetry where MLflow is away."""
    return if_there(settings, lambda: client(settings).get_registered_model(settings.registered_model))


def versions(settings: Settings) -> "list[ModelVersion]":
    """All that MLflow has of the registered model, oldest first."""
    mlflow, token = client(settings), None
    found: list[ModelVersion] = []
    with mlflow_answers(settings):
        while True:
            page = mlflow.search_model_versions(f"name = '{settings.registered_model}'", page_token=token)
            found += page
            token = page.token
            if not token:
                return sorted(found, key=lambda version: int(version.version))


def as_champion(version: "ModelVersion") -> Champion:
    missing = [tag for tag in (MONTH, KEY, URI) if tag not in version.tags]
    if missing:
        raise StageFailed(
            f"version {version.version} of {version.name} in MLflow lacks the tag {', '.join(missing)}: Theta did not "
            "register it, or its tags were taken away; `theta registry check --repair` sets them again"
        )
    key = version.tags[KEY]
    return Champion(int(version.version), version.tags[MONTH], key, address("train", key))


def resolve_champion(spec: Any, inputs: Inputs, settings: Settings, run_id: str) -> Any:
    """`spec` with its champion filled in, unless it names one.

    A run that has decided sees the champion it decided against, so that running it again finds all its work done rather
    than compare a new champion with itself.
    """
    if spec.champion is not None:
        return spec
    with open_ledger(settings) as ledger:
        decided = decision_of(ledger, run_id)
    if decided is None or decided.month != spec.month:
        return replace(spec, champion=current(settings))
    before = decided.champion_before
    return replace(spec, champion=None if before is None else at_version(settings, before))
