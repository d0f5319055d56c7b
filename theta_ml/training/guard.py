"""Watches for a training that runs away: a loss that is no number, or one that leaps and stays up.

It looks where the loss is known anyway (at a line of the history, a validation, a checkpoint), so that no step waits
for it. Then the training goes back to the last good checkpoint with half the rate, twice at most.
"""

import json
import math
import statistics
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from theta_ml.stage import StageFailed
from theta_ml.store import to_disk
from theta_ml.training.processes import is_first

FILE = "guard.json"
MOST = 2
"""Times that a training goes back; then it fails."""
SHARE = 0.5
"""Of the rate that remains."""
WINDOW = 16
FEWEST = 8
"""Lines that are looked back on, and the fewest that say what is usual."""
LASTING = 4
"""Lines in a row that make a leap a spike: fewer come from odd batches, where a line is a step of a few rows and some
rows are known by heart while others are not."""
DEVIATIONS, RISE, FLOOR = 10.0, 0.5, 2.0
"""A leap is above all of the lines that are looked back on, and above their median by so many deviations, and by so
much of the median (in nats; where it is below FLOOR, of that)."""


class Diverged(Exception):
    """The training ran away; the message says at which step, and how."""


@dataclass
class Guard:
    """What happened so far; on disk, so that a kill does not give another chance."""

    rollbacks: int = 0
    scale: float = 1.0
    """Of the planned rate."""

    @classmethod
    def load(cls, folder: Path) -> "Guard":
        file = folder / FILE
        return cls(**json.loads(file.read_text())) if file.exists() else cls()

    def save(self, folder: Path) -> None:
        if not is_first():
            return
        folder.mkdir(parents=True, exist_ok=True)
        partial = folder / f".{FILE}"
        partial.write_text(json.dumps(asdict(self)))
        to_disk(partial)
        partial.replace(folder / FILE)

    def back(self, reason: Diverged, folder: Path, peak: float) -> None:
        """Halves the rate. Raises StageFailed where that was done often enough."""
        if self.rollbacks >= MOST:
            raise StageFailed(
                f"{reason}; it did so again after {MOST} returns to a good checkpoint, with a rate of "
                f"{self.scale:g} of the plan's: lower the peak learning rate of {peak:g} (--set rate={peak / 10:.1g}), "
                f"or look for damaged text in the snapshot"
            )
        self.rollbacks, self.scale = self.rollbacks + 1, self.scale * SHARE
        self.save(folder)


def require_finite(what: str, value: float, step: int) -> None:
    """Raises Diverged."""
    if not math.isfinite(value):
        raise Diverged(f"the {what} became {value} at step {step}")


def look_at(lines: list[dict[str, Any]]) -> None:
    """Raises Diverged where the newest of the history's lines is no number, or ends a spike."""
    last = lines[-1]
    for name, what in (("train_loss", "loss"), ("gradient_norm", "gradient's norm"), ("validation_loss", "loss")):
        if name in last:
            require_finite(what, last[name], last["step"])
    usual, new = _usual(lines), _losses(lines)[-LASTING:]
    if "train_loss" in last and usual is not None and all(loss > usual for loss in new):
        raise Diverged(f"the loss rose to {new[-1]:.3f} at step {last['step']}, where up to {usual:.3f} was usual")


def is_leaping(lines: list[dict[str, Any]]) -> bool:
    """Whether the newest loss is unusual, so that nothing should be kept until the next says whether it stays so."""
    losses = _losses(lines)
    return any(
        highest is not None and losses[-1] > highest
        for highest in (_highest(losses[: -1 - more]) for more in range(LASTING))
    )


def last_good_step(lines: list[dict[str, Any]]) -> int:
    """Step of the newest line before the trouble: weights of an earlier step are known to be good, for the next step's
    loss was; those of this one may be what made the next one's bad. 0 where there is no such line."""
    lines = [line for line in lines if "train_loss" in line]
    while lines and (not math.isfinite(lines[-1]["train_loss"]) or is_leaping(lines)):
        lines.pop()
    return int(lines[-1]["step"]) if lines else 0


def _usual(lines: list[dict[str, Any]]) -> float | None:
    return _highest(_losses(lines)[:-LASTING])


def _losses(lines: list[dict[str, Any]]) -> list[float]:
    return [line["train_loss"] for line in lines[-4 * WINDOW :] if "train_loss" in line]


def _highest(losses: list[float]) -> float | None:
    """What is still usual; None where there is too little to say."""
    if len(losses) < FEWEST:
        return None
    recent = losses[-WINDOW:]
    median = statistics.median(recent)
    deviation = 1.4826 * statistics.median(abs(loss - median) for loss in recent)
    return max(*recent, median + max(DEVIATIONS * deviation, RISE * max(FLOOR, median)))
