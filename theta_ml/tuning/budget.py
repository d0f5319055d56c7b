"""What a tuning may cost, shared out evenly: each trial sees the same number of rows."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from theta_ml.stage import StageFailed

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

WANTED, FEWEST = 12, 4
"""Trials that the minutes are shared out to, where nobody says how many; and how many it may come down to."""
VALIDATIONS = 6
"""Times that a trial is scored on its way, and may be pruned."""
LEAST_STEPS = 40
"""Of the recipe's own rows; fewer tell nothing."""
SCORED = 1 / 3
"""Cost of a row that is scored, forwards only, beside one that is trained on."""
SECONDS = "seconds"
"""User attribute of a trial: time it trained for in its last attempt."""


@dataclass(frozen=True)
class Budget:
    """Of a study, decided when it is made: it goes on as it began."""

    seconds: float
    """Training time of all trials together."""
    trials: int | None
    """Most trials that are brought to an end; None: as many as the time holds."""
    rows: int
    """Rows that each trial trains on, whatever its rows_per_step."""
    validations: int
    trial_seconds: float
    """What a trial should take, from the measured speed."""

    def steps(self, rows_per_step: int) -> int:
        """Of a trial; a whole number between two validations."""
        return self.validations * max(1, round(self.rows / rows_per_step / self.validations))

    def why_over(self, trials: Iterable["FrozenTrial"]) -> str | None:
        """Why no other trial begins; None where one may. What has begun is finished: half a trial tells nothing."""
        trials = list(trials)
        ended = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in trials)
        if self.trials is not None and ended >= self.trials:
            return f"all {self.trials} trials are made"
        spent = spent_seconds(trials)
        if self.seconds - spent < self._usual(trials) / 2:
            return f"the budget is spent: {ended} trials took {spent / 60:.1f} of {self.seconds / 60:g} minutes"
        return None

    def _usual(self, trials: list["FrozenTrial"]) -> float:
        """Seconds of a trial that is not pruned."""
        whole = [trial.user_attrs[SECONDS] for trial in trials if trial.state.name == "COMPLETE"]
        return sum(whole) / len(whole) if whole else self.trial_seconds


def spent_seconds(trials: Iterable["FrozenTrial"]) -> float:
    return sum(trial.user_attrs.get(SECONDS, 0.0) for trial in trials if trial.state.name != "WAITING")


def share_out(
    minutes: float, trials: int | None, row_seconds: float, rows_per_step: int, scored_rows: int, most_rows: int
) -> Budget:
    """The budget where a row takes `row_seconds` to train on, each validation scores `scored_rows` and a training by
    the recipe would see `most_rows`. Raises StageFailed where the minutes hold too little."""
    scoring = VALIDATIONS * scored_rows * SCORED
    least = min(most_rows, LEAST_STEPS * rows_per_step)
    rows = min(most_rows, max(least, round(minutes * 60 / row_seconds / (trials or WANTED) - scoring)))
    trial_seconds = (rows + scoring) * row_seconds
    wanted = trials or FEWEST
    if trial_seconds * wanted > 1.1 * minutes * 60:
        raise StageFailed(
            f"{minutes:g} minutes hold no {wanted} trials of {LEAST_STEPS} steps, at {1 / row_seconds:.0f} rows a "
            f"second: give it {math.ceil(trial_seconds * wanted / 60)} minutes, or fewer trials"
        )
    return Budget(minutes * 60, trials, rows, VALIDATIONS, trial_seconds)
