"""Parts: what was made of a stage's work beforehand, on other machines; a shard of it, mostly.

A part is an artifact like others, made by a stage of its own. It counts only where its spec says the same as the spec
that it is taken for, in all fields that both have, and its inputs likewise. The stage that it is a part of takes what
is there and does the rest itself, so a part that is gone costs time and changes nothing.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import inf
from typing import Any

from theta_ml.store import MEASURING, Artifact, ArtifactMissing, Store


def stage_of(uri: str) -> str:
    """The stage that made the artifact at `uri`."""
    return uri.rstrip("/").rpartition("/")[0].rpartition("/")[2]


def fitting(store: Store, uris: Iterable[str], spec: dict[str, Any], inputs: dict[str, Any]) -> list[str]:
    """Those of `uris` that were made for a spec with these fields, of these inputs (keys by stage); what is gone is
    left out."""
    wanted = json.loads(json.dumps(spec))
    documents = {uri: store.document(uri) for uri in uris}
    return [
        uri
        for uri, document in documents.items()
        if document and _agree(document["spec"], wanted) and _agree(document["inputs"], inputs)
    ]


def _agree(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[name] == other[name] for name in one.keys() & other.keys())


def opened(store: Store, uris: Iterable[str]) -> Iterator[Artifact]:
    """Those that are complete."""
    for uri in uris:
        with suppress(ArtifactMissing):
            yield store.open(uri)


def remove(store: Store, uris: Iterable[str]) -> None:
    """Those that hold conversations: these are now in what was made of them."""
    for uri in uris:
        if stage_of(uri) in MEASURING:
            with store.rewriting(uri) as files:
                files.remove()
            store.forget_copy(uri)


def remove_orphans(store: Store, stages: Iterable[str], before: float) -> int:
    """Parts of these stages that were made before that instant, in seconds since 1970: what they were made for took
    others, or was never made. Returns how many there were."""
    orphans = [uri for stage in stages for uri in store.places(stage) if _made(store, uri) < before]
    remove(store, orphans)
    return len(orphans)


def _made(store: Store, uri: str) -> float:
    """What is not whole, because who removed it was killed, is as old as its newest file."""
    try:
        return store.made(store.open(uri))[1]
    except ArtifactMissing:
        return max(store.root.modified(f"{store.base}/{stage_of(uri)}/{uri.rpartition('/')[2]}").values(), default=inf)
