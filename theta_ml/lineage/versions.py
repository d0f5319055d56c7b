"""Models that learned from a conversation: by their corpora, and by the champions that they started from."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import psycopg

from theta_ml.registry.champion import KEY, registered_model
from theta_ml.registry.ledger import CROWNING
from theta_ml.settings import Settings
from theta_ml.store import Store
from theta_ml.tracking import client, mlflow_answers

CHAMPION = "champion"
_DISLIKED = "disliked "
"""Before the split of what only training from preferences reads."""
_LEARNED = {"train", f"{_DISLIKED}train"}
_PARTS = {
    "train": "learned from {}",
    "validation": "chose its best epoch by {}",
    f"{_DISLIKED}train": "could learn from {} that people disliked",
    f"{_DISLIKED}validation": "could choose its best epoch by {} that people disliked",
}
_CORPORA = f"""
SELECT corpus_key, split, count(*) FROM training_data WHERE conversation_id = ANY(%(ids)s) GROUP BY corpus_key, split
UNION ALL
SELECT corpus_key, '{_DISLIKED}' || split, count(*) FROM disliked_data WHERE conversation_id = ANY(%(ids)s)
GROUP BY corpus_key, split ORDER BY 2"""  # noqa: S608


@dataclass(frozen=True)
class Model:
    """A training that the conversation had a part in."""

    key: str
    """Of the training's artifact."""
    month: str
    how: str
    """What the conversation did in it, in words."""
    corpus: str
    learned: bool
    """False where it only was measured on it, to choose the best epoch."""
    version: int | None = None
    """In the registry, now or before it was retired; None where it was never registered, or there is no registry."""
    aliases: list[str] = field(default_factory=list)
    champion: list[tuple[str, str | None]] = field(default_factory=list)
    """When it was champion: from, and until when, where that has an end."""


def models_with(settings: Settings, store: Store, connection: psycopg.Connection, ids: frozenset[str]) -> list[Model]:
    """Registered ones first, by version. Raises StageRetry where MLflow is away."""
    found = _trainings(store, _corpora(connection, ids))
    versions = _registered(settings) if found and settings.mlflow_tracking_uri else {}
    versions = _retired(connection) | versions
    reigns = _reigns(connection)
    named = [_named(model, versions, reigns) for model in found]
    return sorted(named, key=lambda model: (model.version is None, model.version or 0, model.key))


def are_taught(connection: psycopg.Connection, ids: frozenset[str]) -> bool:
    """Whether any corpus gives one of `ids` to be learned from, whether or not a training of it was ever finished."""
    return any(not _LEARNED.isdisjoint(splits) for splits in _corpora(connection, ids).values())


def _corpora(connection: psycopg.Connection, ids: frozenset[str]) -> dict[str, dict[str, int]]:
    """Corpus → key of `_PARTS` → conversations of `ids` that it took so."""
    found: dict[str, dict[str, int]] = {}
    for key, split, count in connection.execute(_CORPORA, {"ids": list(ids)}):
        found.setdefault(key, {})[split] = count
    return found


def _trainings(store: Store, corpora: dict[str, dict[str, int]]) -> list[Model]:
    documents = [document for uri in store.places("train") if (document := store.document(uri))]
    found = {}
    for document in documents:
        corpus = document.get("inputs", {}).get("prepare", "")
        splits = _read(document, corpora.get(corpus, {}))
        if splits:
            found[document["key"]] = _model(document, _part(splits), not _LEARNED.isdisjoint(splits))
    while True:  # champions of champions
        heirs = [each for each in documents if each["key"] not in found and _learned(found, _parent(each))]
        if not heirs:
            return list(found.values())
        for document in heirs:
            found[document["key"]] = _model(
                document, f"started from {document['value']['start']}, which learned it", True
            )


def _model(document: dict[str, Any], how: str, learned: bool) -> Model:
    month, corpus = document["value"]["month"], document.get("inputs", {}).get("prepare", "")
    return Model(document["key"], month, how, corpus, learned)


def _read(document: dict[str, Any], splits: dict[str, int]) -> dict[str, int]:
    """Those of `splits` that the training's method reads."""
    recipe = document.get("spec", {}).get("recipe") or {}  # trainings from before there were recipes name none
    pairs = recipe.get("method") == "preference"
    return {split: count for split, count in splits.items() if pairs or not split.startswith(_DISLIKED)}


def _part(splits: dict[str, int]) -> str:
    return ", ".join(_PARTS[split].format(count) for split, count in splits.items() if split in _PARTS)


def _parent(document: dict[str, Any]) -> str | None:
    """Key of the training whose weights it started from."""
    champion = document.get("spec", {}).get("champion")
    return champion["key"] if champion and document["value"].get("start", "").startswith(CHAMPION) else None


def _learned(found: dict[str, Model], key: str | None) -> bool:
    return key in found and found[key].learned


def _registered(settings: Settings) -> dict[str, list[tuple[int, list[str]]]]:
    """Key of the training → its versions, each with its aliases."""
    found: dict[str, list[tuple[int, list[str]]]] = {}
    with mlflow_answers(settings):
        model = registered_model(settings)
        versions = client(settings).search_model_versions(f"name = '{settings.registered_model}'") if model else []
    for version in versions:
        number = int(version.version)
        aliases = sorted(name for name, at in (model.aliases if model else {}).items() if int(at) == number)
        found.setdefault(version.tags.get(KEY, ""), []).append((number, aliases))
    return found


def _retired(connection: psycopg.Connection) -> dict[str, list[tuple[int, list[str]]]]:
    """As `_registered`: those that retention took out of the registry; the ledger still names them."""
    rows = connection.execute("SELECT training_key, min(version) FROM retired_versions GROUP BY training_key")
    return {key: [(version, [])] for key, version in rows}


def _named(
    model: Model, versions: dict[str, list[tuple[int, list[str]]]], reigns: dict[int, list[tuple[str, str | None]]]
) -> Model:
    if model.key not in versions:
        return model
    several = sorted(versions[model.key])  # a training that two runs found is registered twice
    aliases = sorted({alias for _, named in several for alias in named})
    champion = sorted(reign for version, _ in several for reign in reigns.get(version, []))
    return replace(model, version=several[0][0], aliases=aliases, champion=champion)


def _reigns(connection: psycopg.Connection) -> dict[int, list[tuple[str, str | None]]]:
    """Version → from when until when it was champion, by the ledger."""
    crownings: Sequence[tuple[int, datetime]] = connection.execute(
        "SELECT champion_after, decided_at FROM ledger WHERE decision = ANY(%s) ORDER BY decided_at, entry_id",
        [list(CROWNING)],
    ).fetchall()
    found: dict[int, list[tuple[str, str | None]]] = {}
    for place, (version, since) in enumerate(crownings):
        later = (at.isoformat() for successor, at in crownings[place + 1 :] if successor != version)
        found.setdefault(version, []).append((since.isoformat(), next(later, None)))
    return found
