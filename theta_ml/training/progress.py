"""How far a training is: what a checkpoint holds beside weights, moments, random state and the library's own state."""

import json
from dataclasses import asdict, dataclass


@dataclass
class Progress:
    """Sums that go on after a resume as if nothing had happened."""

    line_loss: float = 0.0
    """Sum of the steps' losses since the last line of the history."""
    line_step: int = 0
    """Step of that line."""
    epoch_loss: float = 0.0
    """The same sum since the last validation."""
    epoch_step: int = 0
    """Step of that validation."""
    tokens: int = 0
    seconds: float = 0.0
    """Tokens trained on, and time spent on them without validations and checkpoints."""
    validation_due: bool = False
    """The step's validation was cut short."""
    finished: bool = False
    """There is no step left to do."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        return cls(**json.loads(text))
