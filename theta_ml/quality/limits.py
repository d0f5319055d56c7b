"""A team's own limits on its data, some or all, in one file for both stages that judge them: the YAML that
THETA_DATA_LIMITS names, for example `validate: {max_one_user: 0.5}`."""

import math
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, TypeVar

from theta_ml.quality.thresholds import DriftSpec, ValidateSpec
from theta_ml.settings import Settings, SettingsError
from theta_ml.team_file import read_team_file

VARIABLE = "THETA_DATA_LIMITS"
WHERE = "theta_ml/quality/thresholds.py says what each is"
_SPECS: dict[str, type[ValidateSpec] | type[DriftSpec]] = {"validate": ValidateSpec, "drift": DriftSpec}
_OF_A_RUN = ("month", "suites", "accepted")
"""What a run says, and no team once for all."""

Spec = TypeVar("Spec", ValidateSpec, DriftSpec)
Limits = dict[str, dict[str, int | float]]
"""By stage and field."""


def limited(stage: str, spec: Spec, settings: Settings) -> Spec:
    """The spec with the team's limits wherever it holds a default; what a run sets itself stays.

    Raises SettingsError naming file, stage, field and choice.
    """
    usual = type(spec)(spec.month)
    team = read_limits(settings).get(stage, {})
    moved = {name: value for name, value in team.items() if getattr(spec, name) == getattr(usual, name)}
    return replace(spec, **moved)  # type: ignore[arg-type]  # checked against the fields


def read_limits(settings: Settings) -> Limits:
    """All of the file, whichever stage asks: a fault in it is told before the month is half judged."""
    path = settings.data_limits
    if path is None:
        return {}
    given = read_team_file(VARIABLE, path, "validate: {max_one_user: 0.5}", WHERE)
    if unknown := [name for name in given if name not in _SPECS]:
        raise _fault(path, f"no stage {unknown[0]!r}; there are {', '.join(_SPECS)}")
    return {stage: _checked(path, stage, values) for stage, values in given.items()}


def _checked(path: Path, stage: str, values: Any) -> dict[str, int | float]:
    known = {field.name: field.default for field in fields(_SPECS[stage]) if field.name not in _OF_A_RUN}
    if not isinstance(values, dict):
        raise _fault(path, f"{stage}: give lines such as `{next(iter(known))}: {next(iter(known.values()))}`")
    if unknown := [name for name in values if name not in known]:
        raise _fault(path, f"{stage}: no limit {unknown[0]!r}; there are {', '.join(known)}")
    for name, value in values.items():
        whole = isinstance(known[name], int)
        if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
            kind = "a whole number" if whole else "a number"
            raise _fault(path, f"{stage}: {name} is {value!r}; give {kind}, for example {known[name]}")
        if not math.isfinite(value) or value < 0:
            raise _fault(path, f"{stage}: {name} is {value}; give a number from 0 on, for example {known[name]}")
    return values


def _fault(path: Path, what: str) -> SettingsError:
    return SettingsError(f"{VARIABLE}: {path}: {what} ({WHERE})")
