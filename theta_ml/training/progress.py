"""How far a training is: everything beside weights, moments and random state that a checkpoint must hold."""

import json
from dataclasses import asdict, dataclass, field


@dataclass
class Progress:
    """Counts and sums; after a resume they go on as if nothing had happened."""

    step: int = 0
    """Steps done."""
    evaluated_step: int = 0
    """Step at which the validation split was last scored."""
    best_step: int | None = None
    best_validation_loss: float | None = None
    log_loss: float = 0.0
    log_steps: int = 0
    """Sum of the losses, and number of the steps, since the last line of the history."""
    epoch_loss: float = 0.0
    epoch_steps: int = 0
    """The same since the epoch began."""
    tokens: int = 0
    seconds: float = 0.0
    """Tokens trained on (padding counts), and time spent on them without validation."""
    epoch_train_loss: float | None = None
    """Of the last epoch that ended."""
    history: list[dict[str, float | int]] = field(default_factory=list)
    """Lines of history.jsonl: `step`, `time` (seconds since 1970) and numbers by name."""

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds if self.seconds else 0.0

    def add(self, loss: float, tokens: int, seconds: float) -> None:
        self.step += 1
        self.log_loss, self.log_steps = self.log_loss + loss, self.log_steps + 1
        self.epoch_loss, self.epoch_steps = self.epoch_loss + loss, self.epoch_steps + 1
        self.tokens, self.seconds = self.tokens + tokens, self.seconds + seconds

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Progress":
        return cls(**json.loads(text))
