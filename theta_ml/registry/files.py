"""Whether a version's model is where it should be: in the store, from which it is served, and in MLflow."""

from typing import TYPE_CHECKING

from theta_ml.champion import Champion
from theta_ml.settings import Settings
from theta_ml.store import MARKER, Store
from theta_ml.tracking import client, if_there

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

WEIGHTS = ".safetensors"


def lost(settings: Settings, champion: Champion) -> str:
    """What is missing of its training in the store; empty where nothing is."""
    store = Store(settings.artifacts, settings.home / "cache")
    names = store.names(champion.uri)
    if MARKER not in names:
        return f"there is no complete training at {champion.uri}"
    if not any(name.startswith("model/") and name.endswith(WEIGHTS) for name in names):
        return f"{champion.uri} has no weights"
    return ""


def lost_copy(settings: Settings, version: "ModelVersion") -> str:
    """What is missing of its copy in MLflow; empty where nothing is."""
    run, path = place(str(version.source))
    found = if_there(settings, lambda: client(settings).list_artifacts(run, path)) if path else None
    there = {file.path for file in found or []}
    return "" if f"{path}/MLmodel" in there else f"MLflow lacks its files at {version.source}"


def place(source: str) -> tuple[str, str]:
    """The run that holds a version's files, and where in it; both empty where Theta put none.

    Theta registers `runs:/RUN/PATH`.
    """
    run, _, path = source.removeprefix("runs:/").partition("/")
    return (run, path) if source.startswith("runs:/") and path else ("", "")
