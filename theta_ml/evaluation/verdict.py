"""A verdict: every number the gate looked at, its threshold, pass or fail, and one plain sentence."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from theta_ml.evaluation.selection import Candidate

POINTS = ("data", "absolute", "relative", "slices", "guardrails", "golden set", "benchmarks", "time")
"""What checks belong to, in the order in which they are shown."""


@dataclass(frozen=True)
class Check:
    """One line of the gate. `value` is None where the number was missing, which fails."""

    name: str
    value: float | str | None
    threshold: float | str | None
    """None where the number is shown and not judged."""
    passed: bool
    note: str = ""
    point: str = ""
    """One of POINTS."""


@dataclass(frozen=True)
class Verdict:
    """What the gate said, and where its evidence lies."""

    month: str
    decision: str
    """bootstrap, promoted, rejected, blocked or evaluated."""
    sentence: str
    checks: list[Check]
    candidate_version: int | None = None
    champion_before: int | None = None
    mlflow_run_id: str | None = None
    champion_mlflow_run_id: str | None = None
    comparison_url: str | None = None
    """MLflow's page that shows candidate and champion side by side; the candidate's own where there is no champion."""
    recipe: str | None = None
    """The candidate's; None where nothing was trained."""
    candidates: list[Candidate] = field(default_factory=list)
    """Whom it was chosen from, itself included."""
    candidates_url: str | None = None
    """MLflow's page that shows them side by side, where there are several."""


def known(value: float | None) -> bool:
    """Whether there is a number at all."""
    return value is not None and math.isfinite(value)


def number(
    point: str, name: str, value: float | None, threshold: str, passes: Callable[[float], bool], note: str = ""
) -> Check:
    """A number against its limit; one that is missing, or none (NaN), has failed."""
    if value is None or not math.isfinite(value):
        return Check(name, None, threshold, False, missing("number"), point)
    return Check(name, value, threshold, bool(passes(value)), note, point)


def at_most(point: str, name: str, value: float | None, most: float, note: str = "") -> Check:
    return number(point, name, value, f"at most {most:g}", lambda found: found <= most, note)


def at_least(point: str, name: str, value: float | None, least: float, note: str = "") -> Check:
    return number(point, name, value, f"at least {least:g}", lambda found: found >= least, note)


def shown(point: str, name: str, value: float | None, note: str = "") -> Check:
    """A number that no limit is set for; missing, it has failed all the same."""
    if not known(value):
        return Check(name, None, None, False, missing("number"), point)
    return Check(name, value, None, True, note, point)


def said(point: str, name: str, value: str | None, wanted: str, passed: bool, note: str) -> Check:
    """Something other than a number."""
    return Check(name, value, wanted, passed and value is not None, note, point)


def flag(point: str, name: str, value: bool | None, note: str) -> Check:
    return Check(name, None if value is None else str(value).lower(), "true", bool(value), note, point)


def not_judged(point: str, name: str, why: str) -> Check:
    """The run had nothing for it, and says so."""
    return Check(name, "not judged", None, True, why, point)


def missing(what: str) -> str:
    return f"no {what}: what is missing counts as failed"
