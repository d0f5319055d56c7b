"""What is searched: a small table of hyper-parameters, each with a range or choices, read from a YAML file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import TypeAdapter, ValidationError

from theta_ml.training.presets import Hyper

if TYPE_CHECKING:
    from optuna import Trial

DEFAULT = Path(__file__).with_name("space.yaml")
RATE = "rate"
"""The peak learning rate of the recipe's start; the other names are fields of Hyper."""
SEARCHABLE = {RATE, "rows_per_step", "warmup", "weight_decay", "clip"}
"""What a trial's budget and measure do not depend on."""


class SpaceError(ValueError):
    """The search space makes no sense; the message says where and what to write."""


@dataclass(frozen=True)
class Parameter:
    """One line of the table."""

    low: float | None = None
    high: float | None = None
    """The range, both ends included."""
    log: bool = False
    """Draw the logarithm evenly."""
    choices: list[float] = field(default_factory=list)
    """Instead of a range."""
    times: bool = False
    """All numbers here are multiples of the recipe's own value."""
    grid: list[float] = field(default_factory=list)
    """Points of the grid; none: the value stays what it is there."""

    def __post_init__(self) -> None:
        ranged = self.low is not None and self.high is not None
        if ranged == bool(self.choices) or (self.low is None) != (self.high is None):
            raise ValueError("write either low and high, or choices")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError(f"low is {self.low} and high {self.high}: low must be the smaller")
        if self.log and (self.choices or (self.low or 0) <= 0):
            raise ValueError("log needs a range that begins above 0")

    def around(self, value: float) -> "Parameter":
        """The same in plain numbers, `value` (what the recipe has now) among them."""
        factor = value if self.times else 1.0
        low, high = (None if end is None else end * factor for end in (self.low, self.high))
        grid = _with(value, self.grid, factor)
        if low is None or high is None:
            return Parameter(choices=_with(value, self.choices, factor), grid=grid)
        ends = (low, high, *grid, *([] if self.log and value <= 0 else [value]))
        return Parameter(min(ends), max(ends), self.log, grid=grid)


def _with(value: float, points: list[float], factor: float) -> list[float]:
    return sorted({value, *(point * factor for point in points)}) if points else []


Table = dict[str, Parameter]


def read_table(path: Path = DEFAULT) -> Table:
    """Raises SpaceError naming the file, the parameter and what to write."""
    try:
        content = yaml.safe_load(path.read_text())
    except OSError as error:
        raise SpaceError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise SpaceError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    return check_table(content, str(path))


def check_table(content: Any, where: str) -> Table:
    """The table from what YAML or JSON gave. Raises SpaceError."""
    if not isinstance(content, dict) or not content:
        raise SpaceError(f"{where}: write one line a parameter, as in {DEFAULT.name}")
    return {name: _parameter(name, value, where) for name, value in content.items()}


def _parameter(name: str, value: Any, where: str) -> Parameter:
    if name not in SEARCHABLE:
        raise SpaceError(f"{where}: {name} cannot be searched; choose among {', '.join(sorted(SEARCHABLE))}")
    known = {each.name for each in fields(Parameter)}
    if not isinstance(value, dict) or set(value) - known:
        raise SpaceError(f"{where}: {name} takes {', '.join(sorted(known))}")
    try:
        return TypeAdapter(Parameter).validate_python(value)
    except ValidationError as error:
        fault = error.errors(include_input=False)[0]
        place = ".".join(map(str, (name, *fault["loc"])))
        raise SpaceError(f"{where}: {place}: {fault['msg'].removeprefix('Value error, ')}") from None


@dataclass(frozen=True)
class Space:
    """The table in plain numbers, around the recipe's own values, which are the study's first trial."""

    parameters: Table
    default: dict[str, float]

    @classmethod
    def around(cls, table: Mapping[str, Parameter], hyper: Hyper, rate: float, grid: bool) -> "Space":
        """For a recipe with these hyper-parameters and peak rate; of a grid, only what has points."""
        own = {name: rate if name == RATE else float(getattr(hyper, name)) for name in table}
        plain = {name: parameter.around(own[name]) for name, parameter in table.items()}
        if "rows_per_step" in plain:
            plain["rows_per_step"] = _whole(plain["rows_per_step"])
        if grid:
            plain = {name: parameter for name, parameter in plain.items() if len(parameter.grid) > 1}
            if not plain:
                raise SpaceError("a grid needs a parameter with at least two points: write grid: [1, 2] behind one")
        return cls(plain, {name: own[name] for name in plain})

    @property
    def grid(self) -> dict[str, list[float]]:
        return {name: parameter.grid for name, parameter in self.parameters.items()}

    def suggest(self, trial: "Trial") -> dict[str, float]:
        """A point of the space, as the study's sampler draws it."""
        return {name: _suggest(trial, name, parameter) for name, parameter in self.parameters.items()}


def _suggest(trial: "Trial", name: str, parameter: Parameter) -> float:
    if parameter.choices:
        return float(trial.suggest_categorical(name, parameter.choices))
    assert parameter.low is not None and parameter.high is not None
    return trial.suggest_float(name, parameter.low, parameter.high, log=parameter.log)


def _whole(parameter: Parameter) -> Parameter:
    """Rows are counted: half of one row is one."""
    if not parameter.choices:
        raise SpaceError("rows_per_step: write choices, for example choices: [0.5, 1, 2] with times: true")

    def whole(points: list[float]) -> list[float]:
        return sorted({float(max(1, round(point))) for point in points})

    return Parameter(choices=whole(parameter.choices), grid=whole(parameter.grid))
