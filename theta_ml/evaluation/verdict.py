"""A verdict: every number the gate looked at, its threshold, pass or fail, and one plain sentence."""

from dataclasses import dataclass, field

from theta_ml.evaluation.selection import Candidate


@dataclass(frozen=True)
class Check:
    """One line of the gate. `value` is None where the number was missing, which fails."""

    name: str
    value: float | str | None
    threshold: float | str | None
    passed: bool
    note: str = ""


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
