"""Artifacts: directories named by content key, under any fsspec root, that exist whole or not at all.

In a folder an artifact's files lie in `ROOT/STAGE/KEY/`; in a bucket in `ROOT/STAGE/KEY/CONTENT/`, where CONTENT is a
digest of the files, so that two writers of one key never mix and a file that is there is known to be the right one. The
marker `_COMPLETE`, written last, names that folder and the size and SHA-256 of each file.
"""

from theta_ml.store.artifact import (
    DOCUMENT,
    ERASED,
    HOLDING,
    MARKER,
    MEASURING,
    Artifact,
    ArtifactDamaged,
    ArtifactMissing,
    ErasedMeanwhile,
    address,
)
from theta_ml.store.disk import to_disk
from theta_ml.store.faults import explanation
from theta_ml.store.rewriting import Rewriting
from theta_ml.store.spool import STALE_SECONDS
from theta_ml.store.store import Store

__all__ = [
    "DOCUMENT",
    "ERASED",
    "HOLDING",
    "MARKER",
    "MEASURING",
    "STALE_SECONDS",
    "Artifact",
    "ArtifactDamaged",
    "ArtifactMissing",
    "ErasedMeanwhile",
    "Rewriting",
    "Store",
    "address",
    "explanation",
    "to_disk",
]
