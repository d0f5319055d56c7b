"""Parts: what was made of a stage's work beforehand, on other machines; a shard of it, mostly.

A part is an artifact like others, made by a stage of its own. Its spec holds all fields of the spec that it was made
for, and it counts only where these, and the inputs, are the same. The stage that it is a part of takes what is there
and does the rest itself, so a part that is gone costs time and changes nothing.
"""

import json
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any

from theta_ml.store import Artifact, ArtifactMissing, Store


def stage_of(uri: str) -> str:
    """The stage that made the artifact at `uri`."""
    return uri.rstrip("/").rpartition("/")[0].rpartition("/")[2]


def fitting(store: Store, uris: Iterable[str], spec: dict[str, Any], inputs: dict[str, Any]) -> list[str]:
    """Those of `uris` that were made for this spec, of these inputs (keys by stage); what is gone is left out."""
    wanted = json.loads(json.dumps(spec))
    found = []
    for uri in dict.fromkeys(uris):
        document = store.document(uri)
        if document and wanted.items() <= document["spec"].items() and document["inputs"].items() <= inputs.items():
            found.append(uri)
    return found


def opened(store: Store, uris: Iterable[str]) -> Iterator[Artifact]:
    """Those that are complete."""
    for uri in uris:
        with suppress(ArtifactMissing):
            yield store.open(uri)


def remove(store: Store, uris: Iterable[str]) -> None:
    """What they hold is now in what was made of them."""
    for uri in uris:
        with store.rewriting(uri) as files:
            files.remove()
        store.forget_copy(uri)
