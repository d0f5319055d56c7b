"""What the store keeps, and what may be wrong with it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DOCUMENT = "artifact.json"
MARKER = "_COMPLETE"
ERASED = "_ERASED.json"
"""Beside the files of an artifact from which conversations were erased: when, by which erasures, how many; no ids."""
HOLDING = ("snapshot", "pack", "prepare")
"""Stages whose artifacts hold what people said."""
MEASURING = ("digest", "extract", "spool")
"""Whose artifacts hold numbers and word hashes of single conversations, or a part of a snapshot or unit until that is
made: an erasure throws them away."""


def address(stage: str, key: str) -> str:
    """What `Store.open` takes for a URI, and is the same for every store."""
    return f"{stage}/{key}"


class ArtifactMissing(Exception):
    """No complete artifact at this address; the message says which stage makes it."""


class ArtifactDamaged(ArtifactMissing):
    """A file in the bucket is not what was written there."""


class ErasedMeanwhile(Exception):
    """Conversations were erased while an artifact was made that may hold them: it is thrown away, make it again."""


@dataclass(frozen=True)
class Artifact:
    """A stage's finished output."""

    stage: str
    key: str
    uri: str
    place: Path | Callable[[], Path] = field(repr=False)
    """Its folder on local disk, or what fetches it there."""
    document: dict[str, Any] = field(repr=False)
    """`artifact.json`: stage, version, spec, inputs (stage → key) and `value`, the noun's fields."""

    @property
    def path(self) -> Path:
        """Its folder on local disk; what lies in a bucket is fetched when this is first asked for."""
        return self.place if isinstance(self.place, Path) else self.place()
