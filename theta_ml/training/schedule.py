"""How many steps there are, and the learning rate of each."""

import math
from dataclasses import dataclass

from theta_ml.training.presets import Hyper

LINES = 200
"""Lines of history that a training's steps are averaged into."""


@dataclass(frozen=True)
class Plan:
    """The steps of a training."""

    steps: int
    steps_per_epoch: int
    rows: int
    """In an epoch."""
    rows_per_step: int
    """The last step of an epoch may have fewer."""
    peak: float
    """Highest learning rate."""
    warmup_steps: int

    @classmethod
    def of(cls, hyper: Hyper, rows: int, peak: float) -> "Plan":
        per_epoch = math.ceil(rows / hyper.rows_per_step)
        steps = min(hyper.epochs * per_epoch, hyper.max_steps)
        return cls(steps, per_epoch, rows, hyper.rows_per_step, peak, round(hyper.warmup * steps))

    def rate(self, step: int) -> float:
        """Learning rate of step 0, 1, …: a line up to the peak, then half a cosine down to 0."""
        if step < self.warmup_steps:
            return self.peak * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.peak * 0.5 * (1 + math.cos(math.pi * done))

    @property
    def steps_per_line(self) -> int:
        """Steps that a line of the history is the mean of."""
        return max(1, self.steps // LINES)

    def rows_before(self, step: int) -> int:
        """Rows in the first `step` steps."""
        epochs, steps = divmod(step, self.steps_per_epoch)
        return epochs * self.rows + min(steps * self.rows_per_step, self.rows)

    def epoch(self, step: int) -> int:
        """Epoch, counted from 1, that the step before this one belongs to."""
        return math.ceil(step / self.steps_per_epoch)
