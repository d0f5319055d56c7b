"""What a tuning is told, and what there is of it afterwards."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator

from theta_ml.champion import Champion
from theta_ml.stage import Inputs
from theta_ml.training.presets import find_preset
from theta_ml.training.recipe import DEFAULT, RecipeField, find_recipe
from theta_ml.tuning.space import Table, check_table, read_table


def _table(value: Any) -> Table:
    """From a file's name, or from what the record of a study holds."""
    from pathlib import Path

    if isinstance(value, str):
        return read_table(Path(value)) if value else read_table()
    return check_table({name: _plain(each) for name, each in value.items()}, "space")


def _plain(parameter: Any) -> Any:
    return parameter if isinstance(parameter, dict) else asdict(parameter)


@dataclass(frozen=True)
class StudySpec:
    """What to search, how, and for how long. The same spec on the same corpus goes on with the same study."""

    month: str
    """The run's month."""
    preset: str = "tiny"
    """`tiny` for a CPU, `base` for a GPU."""
    recipe: RecipeField = field(default_factory=lambda: find_recipe(DEFAULT))
    """Name of the recipe whose hyper-parameters are searched."""
    champion: Champion | None = None
    """Whose weights the recipe may start from."""
    sampler: Literal["grid", "random", "tpe"] = "tpe"
    """Who chooses the next trial: every point of a grid, chance, or the Bayesian tree of Parzen estimators."""
    pruner: Literal["median", "hyperband", "none"] = "median"
    """Who ends a trial early: one worse than half of those before it, Hyperband's brackets, or nobody."""
    minutes: float = 10.0
    """Training time of all trials together."""
    trials: int | None = None
    """Most trials; None: as many as the minutes hold."""
    space: Annotated[Table, BeforeValidator(_table)] = field(default_factory=read_table)
    """File of the search space; where empty, the one that comes with Theta."""
    seed: int = 1
    """Of the sampler, and of each trial's training."""
    new: bool = False
    """Begin another study although there is one of the same spec and corpus."""

    def __post_init__(self) -> None:
        find_preset(self.preset)
        if not 0 < self.minutes <= 60 * 24 * 14:
            raise ValueError(f"minutes is {self.minutes:g}: choose more than 0, at most two weeks")
        if self.trials is not None and self.trials < 2:
            raise ValueError(f"trials is {self.trials}: choose at least 2, the recipe as it is and one other")

    def title(self, inputs: Inputs) -> str:
        """Name of the spec's studies on this corpus, but for their number."""
        identity = asdict(self) | {"new": None, "corpus": inputs.artifact("prepare").key}
        text = json.dumps(identity, sort_keys=True, separators=(",", ":"))
        mark = hashlib.sha256(text.encode()).hexdigest()[:6]
        return f"{self.month}-{self.preset}-{self.recipe.name}-{self.sampler}-{mark}"


@dataclass(frozen=True)
class Study:
    """A study in Postgres, ready for its trials."""

    month: str
    name: str
    recipe: str
    preset: str
    sampler: str
    minutes: float
    start: str
    """What each trial starts from: `scratch`, or `champion v3`."""
    steps: int
    """Of a trial with the recipe's own rows_per_step."""
    mlflow_run: str
    """The tuning's run, whose nested runs are the trials; empty where MLflow was away."""


@dataclass(frozen=True)
class TrialResult:
    """One trial, at its end. Losses are nats a token of the validation split."""

    month: str
    study: str
    number: int
    state: str
    """`complete`, `pruned` or `fail`."""
    params: dict[str, float]
    validation_loss: float | None
    """Best on the way; None where it was never scored."""
    seconds: float
    note: str
    """Why it ended early."""


@dataclass(frozen=True)
class Winner:
    """What a tuning found."""

    month: str
    study: str
    trials: int
    pruned: int
    cut_short: int
    """Attempts that were killed, and begun again."""
    minutes: float
    """Training time spent."""
    default_loss: float | None
    """Of the recipe as it was, under the same budget."""
    loss: float | None
    """The best."""
    number: int | None
    """Of the best trial."""
    params: dict[str, float]
    recipe: str | None
    """Name of the recipe written; None where nothing beat the default."""
    file: str
    sentence: str
