"""The model in production, as a stage sees it: named before the stage's key is taken, so that key and work agree."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Champion:
    """What the alias `champion` pointed at when the stage began."""

    version: int
    month: str
    """The last month its training data saw."""
    key: str
    """Content key of its training."""
    uri: str
    """Its training artifact (`theta_ml.training`), with `model/` in Hugging Face's form and the tokenizer beside it."""
