"""How a training goes: written in its own thread, read in those of the sampler and of the mails."""

import time
from dataclasses import dataclass, field
from typing import Any

Line = dict[str, Any]
"""A line of the history: `step`, `time` and numbers by name."""


@dataclass(frozen=True)
class Subject:
    """Which training it is."""

    run_id: str
    model_key: str
    month: str
    recipe: str
    parameters: int
    """That are trained."""
    tokens: int
    """Of the corpus, in one epoch."""
    device: str
    in_retraining: bool = True
    """Whether its run is one of the retraining, with a page there; else of a search."""


@dataclass
class Course:
    """Steps done, their pace and the history's lines."""

    steps: int = 0
    """Planned."""
    step: int = 0
    history: list[Line] = field(default_factory=list)
    paused_seconds: float = 0.0
    _pace_from: tuple[int, float] | None = None

    def begin(self, steps: int, step: int, history: list[Line]) -> None:
        """From a checkpoint's step on, also where the training goes back to one."""
        self.steps, self.step, self._pace_from, self.history = steps, step, None, list(history)

    def advance(self, step: int) -> None:
        self.step = step
        if self._pace_from is None:  # the first step compiles, or fills caches
            self._pace_from = (step, time.monotonic() - self.paused_seconds)

    def hear(self, line: Line) -> None:
        self.history = [*self.history, line]  # a new list: a mail may be reading the old one

    @property
    def remaining_seconds(self) -> float | None:
        """None until two steps of this attempt are done."""
        now, pace = self.step, self._pace_from  # read once: the training may be sent back while the sampler asks
        if pace is None or now <= pace[0]:
            return None
        step, since = pace
        each = (time.monotonic() - self.paused_seconds - since) / (now - step)
        return each * (self.steps - now)

    @property
    def best(self) -> float | None:
        """Lowest validation loss."""
        return min((line["validation_loss"] for line in self.history if "validation_loss" in line), default=None)

    def newest(self, name: str) -> float | None:
        """The last value of that name in the history."""
        return next((line[name] for line in reversed(self.history) if name in line), None)
