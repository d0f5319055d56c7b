"""The model in production, as a stage sees it: named before the stage's key is taken, so that key and work agree."""

from dataclasses import dataclass
from pathlib import Path

from theta_ml.stage import StageFailed
from theta_ml.store import ArtifactMissing, Store


@dataclass(frozen=True)
class Champion:
    """What the alias `champion` pointed at when the stage began."""

    version: int
    month: str
    """The last month its training data saw."""
    key: str
    """Content key of its training."""
    uri: str
    """Its training artifact (`theta_ml.training`), with `model/` in Hugging Face's form and the tokenizer beside it; as
    `STAGE/KEY`, for a champion is part of keys, and where the store is must not be."""

    def model(self, store: Store) -> Path:
        """The model's folder. Raises StageFailed where the artifact is gone."""
        try:
            return store.open(self.uri).path / "model"
        except ArtifactMissing as error:
            raise StageFailed(f"the model of champion version {self.version} is gone: {error}") from error
